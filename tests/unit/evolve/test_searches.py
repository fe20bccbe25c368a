"""Whole searches of every kind on real tiny models."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mergery.engine import merge
from mergery.errors import DataError, StudyError
from mergery.evaluate import evaluate, load_items
from mergery.evolve import SearchSpec, evolve, importance
from mergery.evolve.opening import Search
from mergery.evolve.reading import StudyReading
from mergery.recipe import Recipe
from unit.evolve.formulas import write_items


def essence(evolved):
    return [(trial.genome, trial.score, trial.recipe) for trial in evolved.trials]


@pytest.fixture(autouse=True)
def no_panels(monkeypatch):
    """A panel for each of nine knobs takes longer than the search."""
    monkeypatch.setattr(importance, "draw_sensitivity", lambda path, *_, **__: path.write_bytes(b"png"))


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def confirming(search, **settings):
    """A quarter of 20 items is held back, as by default."""
    del search["task"]["confirm"]
    search["search"] |= settings
    return SearchSpec.from_dict(search)


def test_finalists_are_asked_what_was_held_back(search, out):
    evolved = evolve(confirming(search), out)
    report = json.loads((out / "report.json").read_text())
    assert report["items"] == {"validation": 15, "test": 30, "confirm": 5}
    # rungs end after 1, 2 and 5 items; 8, 4 and 1 finalists
    assert report["item_evaluations"] == {"searching": 12 * 15, "confirming": 8 * 1 + 4 * 1 + 3}
    confirmed = evolved.report.confirmed
    winner = evolved.trials[confirmed.winner]
    assert winner.recipe == evolved.best.digest
    tops = sorted(evolved.trials, key=lambda trial: -trial.score)[:8]
    assert sorted(finalist.number for finalist in confirmed.finalists) == sorted(t.number for t in tops)
    assert report["best"]["claimed_validation"] == winner.score == evolved.report.searched
    # the claim is the mean over the three items that were asked last, of the model as it was written
    held = sorted(load_items(search["task"]["validation"]).hashes)[15:]
    alone = evaluate(out / "model", search["task"]["validation"], evaluator="likelihood")
    outcomes = dict(zip(alone.hashes, alone.outcomes.tolist(), strict=True))
    claim = report["best"]["confirmed"]
    assert claim["score"] == evolved.report.claimed
    assert claim["score"] == pytest.approx(np.mean([outcomes[found] for found in held[2:]]), rel=1e-5)
    assert claim["low"] <= claim["score"] <= claim["high"]
    test = report["best"]["test"]["score"]
    assert report["best"]["claimed_minus_test"] == pytest.approx(claim["score"] - test)


@pytest.mark.parametrize(
    ("budget", "finalists", "reserve"), [(None, 8, 15), (120, 8, 15), (119, 4, 9), (72, 4, 9), (40, 1, 5)]
)
def test_confirming_takes_an_eighth_of_the_budget_at_most(search, budget, finalists, reserve):
    """Rungs end after 1, 2 and 5 items: 8 + 4 + 3, 4 + 2 + 3, 2 + 1 + 3, 1 + 1 + 3."""
    search["search"] = {"algorithm": "random", "trials": 9}
    checked = Search.open(confirming(search, budget=budget))
    assert (checked.finalists, checked.reserve) == (finalists, reserve)
    assert checked.budget.items == (budget and budget - reserve)


def test_a_confirmed_search_is_continued_and_repeated(search, out, tmp_path):
    spec = confirming(search)
    whole = evolve(spec, tmp_path / "whole")
    evolve(confirming_fewer(search, 5), out)
    more = evolve(spec, out)
    assert essence(more) == essence(whole)
    for name in ("best.yml", "model/model.safetensors", "search.png"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    (out / "study" / "ledger.sqlite").unlink()
    again = evolve(spec, out)
    assert essence(again) == essence(whole)
    assert again.report.claimed == whole.report.claimed


def confirming_fewer(search, trials):
    return SearchSpec.from_dict(search | {"search": search["search"] | {"trials": trials}})


def test_a_budget_pays_for_all(search, out, tmp_path):
    search["task"]["validation"] = str(write_items(tmp_path / "more.jsonl", 80, 1))
    evolved = evolve(confirming(search, trials=None, budget=700, racing=True), out)
    report = json.loads((out / "report.json").read_text())
    spent = report["item_evaluations"]
    # rungs of the 20 that are held back end after 5, 10 and 20
    assert spent["confirming"] == 8 * 5 + 4 * 5 + 10
    assert spent["searching"] == sum(trial.cost for trial in evolved.trials)
    # what is left would not pay for one more trial of 60
    assert 700 - 60 < spent["searching"] + spent["confirming"] <= 700
    assert report["given_up_trials"] == sum(not trial.whole for trial in evolved.trials) > 0


def test_few_items_a_candidate(search, out):
    """Each is asked the first six of twenty; gradients are taken on all of them."""
    search["search"] = {"algorithm": "gradient", "items": 6, "budget": 1500, "seed": 1}
    evolved = evolve(SearchSpec.from_dict(search), out)
    whole = [trial for trial in evolved.trials if trial.gradient is None]
    assert {trial.items for trial in whole} == {6}
    assert {trial.items for trial in evolved.trials if trial.gradient is not None} == {20}
    known = load_items(search["task"]["validation"])
    first = sorted(known.hashes)[:6]
    merge(evolved.best, out / "again")
    alone = evaluate(out / "again", search["task"]["validation"], evaluator="likelihood")
    outcomes = dict(zip(alone.hashes, alone.outcomes.tolist(), strict=True))
    assert evolved.report.searched == pytest.approx(np.mean([outcomes[found] for found in first]), rel=1e-4)
    task = search.pop("task")
    search["tasks"] = {"a": task, "b": task | {"evaluator": "exact_match"}}
    search["search"]["items"] = 1
    with pytest.raises(DataError, match=r"^search\.items: 1 items leave a task without any of 2"):
        evolve(SearchSpec.from_dict(search), out / "other")


def test_a_record_in_a_database(search, out, tmp_path):
    search["search"]["trials"] = 5
    filed = evolve(SearchSpec.from_dict(search), tmp_path / "filed")
    search["search"]["storage"] = f"sqlite:///{tmp_path / 'trials.db'}"
    kept = evolve(SearchSpec.from_dict(search), out)
    assert essence(kept) == essence(filed)
    assert not (out / "study" / "journal.log").exists()
    # another search in the same database
    search["search"]["seed"] = 9
    other = evolve(SearchSpec.from_dict(search), tmp_path / "other")
    assert [trial.score for trial in StudyReading.open(out).trials] == [trial.score for trial in kept.trials]
    assert [t.score for t in StudyReading.open(tmp_path / "other").trials] == [t.score for t in other.trials]


def test_several_tasks(search, out):
    task = search.pop("task")
    search["tasks"] = {"likely": task, "right": task | {"evaluator": "exact_match", "weight": 3.0}}
    evolved = evolve(SearchSpec.from_dict(search), out)
    report = json.loads((out / "report.json").read_text())
    assert report["items"] == {"validation": 40, "test": 60}
    assert report["metric"] == "likelihood, exact_match"
    for split, data in (("validation", None), ("test", report["best"]["test_by_task"])):
        likely, right = (
            evaluate(out / "model", task[split], evaluator=name).value
            for name in ("likelihood", "exact_match")
        )
        assert report["best"][split]["score"] == pytest.approx((likely + 3 * right) / 4, rel=1e-6)
        if data:
            assert data == {"likely": pytest.approx(likely, rel=1e-6), "right": pytest.approx(right)}
    assert max(trial.score for trial in evolved.trials) == report["best"]["claimed_validation"]
    again = evolve(SearchSpec.from_dict(search), out, progress=lambda step: pytest.fail("asked again"))
    assert essence(again) == essence(evolved)


def test_several_objectives(search, out):
    task = search.pop("task")
    search["tasks"] = {"likely": task, "right": task | {"evaluator": "exact_match", "weight": 3.0}}
    search["search"] = {"algorithm": "nsga2", "trials": 6, "population": 4, "objectives": True}
    evolved = evolve(SearchSpec.from_dict(search), out)
    for trial in evolved.trials:
        likely, right = trial.values
        assert trial.score == pytest.approx((likely + 3 * right) / 4, rel=1e-6)


def test_the_method_is_searched_too(search, out):
    """One method has a base and the other has none; all the same models are digested and reported."""
    search["recipe"]["merge_method"] = {"search": ["linear", "task_arithmetic", "ties"]}
    search["recipe"]["parameters"] = {"density": {"search": [0.2, 0.9]}}
    search["search"] = {"algorithm": "random", "trials": 12}
    evolved = evolve(SearchSpec.from_dict(search), out)
    assert {trial.genome[0] for trial in evolved.trials} == {"linear", "task_arithmetic", "ties"}
    assert all(trial.failure is None for trial in evolved.trials)
    best = max(evolved.trials, key=lambda trial: trial.score)
    assert evolved.best.merge_method == best.genome[0]
    assert ("density" in evolved.best.parameters) == (best.genome[0] == "ties")
    report = json.loads((out / "report.json").read_text())
    names = [(Path(other["name"]).name, other["role"]) for other in report["others"][:3]]
    assert names == [("base", "base"), ("one", "parent"), ("two", "parent")]


def test_a_base_that_only_some_methods_read_is_part_of_the_search(search, out, make_model):
    search["recipe"]["models"].append({"model": str(make_model("three", 3, near=0))})
    for model in search["recipe"]["models"]:
        model.pop("parameters", None)
    search["recipe"] |= {
        "merge_method": {"search": ["task_analogy", "task_arithmetic"]},
        "parameters": {"lambda": {}},
    }
    search["search"] = {"algorithm": "random", "trials": 4}
    evolved = evolve(SearchSpec.from_dict(search), out)
    assert {trial.genome[0] for trial in evolved.trials} == {"task_analogy", "task_arithmetic"}
    make_model("base", 9)
    with pytest.raises(StudyError, match="holds the record of another search"):
        evolve(SearchSpec.from_dict(search), out)


def test_references_are_tried_first(search, out):
    search["search"] |= {"references": True, "racing": True, "trials": 6}
    evolved = evolve(SearchSpec.from_dict(search), out)
    origins = [trial.origin for trial in evolved.trials]
    assert origins[:3] == ["reference: ties", "reference: dare_ties", "reference: model_stock"]
    assert origins[3:] == ["cma-es"] * 3
    assert [trial.genome is None for trial in evolved.trials] == [True] * 3 + [False] * 3
    recipe = Recipe.from_dict(
        {
            "merge_method": "ties",
            "base_model": search["recipe"]["base_model"],
            "models": [{"model": model["model"]} for model in search["recipe"]["models"]],
            "parameters": {"density": 0.2},
        }
    )
    assert evolved.trials[0].recipe == recipe.digest
    again = evolve(SearchSpec.from_dict(search), out, progress=lambda step: pytest.fail("asked again"))
    assert again.trials == evolved.trials


def test_no_gain_is_called_so(search, out):
    """The search can do nothing but give the one expert back."""
    del search["recipe"]["models"][1]
    search["recipe"]["models"][0]["parameters"]["weight"] = {"search": [0.999999, 1.0], "start": 1.0}
    search["search"] = {"algorithm": "random", "trials": 3}
    evolved = evolve(SearchSpec.from_dict(search), out)
    report = json.loads((out / "report.json").read_text())
    assert report["verdict"].startswith("no gain over ")
    assert not evolved.report.gained
    one = next(other for other in report["others"] if other["role"] == "parent")
    assert report["best"]["test"]["score"] == pytest.approx(one["test"]["score"], abs=1e-4)
    assert one["best_minus_this_test"]["score"] == pytest.approx(0.0, abs=1e-4)
