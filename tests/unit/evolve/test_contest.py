"""Whom a search's winner is measured against."""

from __future__ import annotations

import numpy as np

from mergery.evaluate import evaluate
from mergery.evolve import SearchSpec, evolve, importance
from mergery.evolve.forecast import forecast


def test_a_path_is_measured_against_the_merge_that_it_begins_with(search, tmp_path, monkeypatch):
    monkeypatch.setattr(importance, "draw_sensitivity", lambda path, *_, **__: path.write_bytes(b"png"))
    expert = search["recipe"]["models"][0]["model"]
    paths = {"models": ["evolved", expert], "search": {"algorithm": "cat-cma"}}
    settings = search["search"] | {"trials": 6}
    spec = SearchSpec.from_dict(search | {"paths": paths, "search": settings})
    expected = forecast(spec, tmp_path / "out")[1].item_evaluations["reporting"]
    found = evolve(spec, tmp_path / "out")
    names = [other.name for other in found.report.others]
    assert names.count("the donor as it is") == 1
    donor = found.report.others[names.index("the donor as it is")]
    merged = evaluate(tmp_path / "out" / "weights" / "model", search["task"]["test"], evaluator="likelihood")
    np.testing.assert_allclose(np.sort(donor.test), np.sort(merged.outcomes), rtol=1e-4)
    # the model, four others: 20 items of the search and 30 of the test each
    assert expected == (1 + len(names)) * (20 + 30)
    assert len(names) == 4


def test_a_stored_donor_is_a_parent_only(search, tmp_path, monkeypatch):
    monkeypatch.setattr(importance, "draw_sensitivity", lambda path, *_, **__: path.write_bytes(b"png"))
    models = [model["model"] for model in search["recipe"]["models"]]
    settings = search["search"] | {"trials": 5, "algorithm": "cat-cma"}
    spec = SearchSpec.from_dict({"paths": {"models": models}, "search": settings, "task": search["task"]})
    report = evolve(spec, tmp_path / "out").report
    assert "the donor as it is" not in [other.name for other in report.others]
