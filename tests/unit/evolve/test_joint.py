"""Weights and a path searched at once, against models put together by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
import transformers as hf

from layered import literal_graph
from mergery.errors import RecipeError
from mergery.evaluate import evaluate
from mergery.evolve import SearchSpec, evolve, importance
from mergery.evolve.algorithms import get_algorithm
from mergery.evolve.forecast import forecast
from mergery.evolve.opening import Search
from mergery.evolve.reading import StudyReading


@pytest.fixture(autouse=True)
def no_panels(monkeypatch):
    monkeypatch.setattr(importance, "draw_sensitivity", lambda path, *_, **__: path.write_bytes(b"png"))


@pytest.fixture
def joint(search):
    """A search over two weights and a path through their merge and the second expert."""
    for model in search["recipe"]["models"]:
        model["parameters"]["weight"] = {"search": [-0.5, 1.5], "start": 0.5}
    expert = search["recipe"]["models"][1]["model"]
    search["paths"] = {"models": ["evolved", expert], "joint": True, "gains": False}
    search["search"] = {"algorithm": "cat-cma", "trials": 30, "seed": 3}
    return search


def load(path):
    return hf.AutoModelForCausalLM.from_pretrained(path, dtype="float32").eval()


def by_hand(search, genome):
    """Sums of task vectors, and copies of layers in the order of the choices."""
    recipe = search["recipe"]
    base, one, two = (load(path) for path in (recipe["base_model"], *(m["model"] for m in recipe["models"])))
    weights = [float(value) for value in genome[:2]]
    donor, start = load(recipe["base_model"]), base.state_dict()
    merged = {
        name: value
        + sum(w * (e.state_dict()[name] - value) for w, e in zip(weights, (one, two), strict=True))
        for name, value in start.items()
    }
    donor.load_state_dict(merged)
    visits = []
    for layer, choice in enumerate(genome[2:]):
        if choice != "skip":
            number = int(choice.split()[1])
            visits += [(number, layer)] * (2 if choice.endswith("twice") else 1)
    return literal_graph([donor, two], visits, [1.0] * len(visits), {"num_hidden_layers": len(visits)})


def test_what_is_found_is_what_is_written(joint, tmp_path):
    evolved = evolve(SearchSpec.from_dict(joint), tmp_path / "out")
    found = next(trial for trial in evolved.trials if trial.recipe == evolved.best.digest)
    assert len({trial.genome[:2] for trial in evolved.trials}) > 20
    assert len({trial.genome[2:] for trial in evolved.trials}) > 5
    expected, written = by_hand(joint, found.genome), load(evolved.model)
    assert written.config.num_hidden_layers == expected.config.num_hidden_layers
    ids = torch.randint(3, written.config.vocab_size, (20, 30), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(written(ids).logits, expected(ids).logits, rtol=1e-3, atol=1e-4)
    # in memory it was the same: the donor is merged anew for each candidate, the layers stay where they are
    alone = evaluate(evolved.model, joint["task"]["validation"], evaluator="likelihood")
    assert found.score == pytest.approx(alone.outcomes.mean(), rel=1e-4)


def test_every_trials_score_is_its_own_models(joint, tmp_path):
    """None is scored with another's weights, nor with hidden states of them."""
    joint["search"]["trials"] = 6
    evolved = evolve(SearchSpec.from_dict(joint), tmp_path / "out")
    ids = torch.randint(3, 20, (4, 10), generator=torch.Generator().manual_seed(1))
    for trial in evolved.trials:
        model = by_hand(joint, trial.genome)
        directory = tmp_path / f"trial {trial.number}"
        model.save_pretrained(directory)
        hf.AutoTokenizer.from_pretrained(evolved.model).save_pretrained(directory)
        torch.testing.assert_close(load(directory)(ids).logits, model(ids).logits)
        outcomes = evaluate(directory, joint["task"]["validation"], evaluator="likelihood").outcomes
        assert trial.score == pytest.approx(outcomes.mean(), rel=1e-4)


def test_plain_merges_stand_beside_it(joint, tmp_path):
    joint["search"] |= {"trials": 12, "algorithm": "staged"}
    spec = SearchSpec.from_dict(joint)
    forecasted = forecast(spec, tmp_path / "out")
    evolved = evolve(spec, tmp_path / "out")
    origins = [trial.origin for trial in evolved.trials]
    assert origins[:4] == [
        "reference: ties",
        "reference: dare_ties",
        "reference: model_stock",
        "ladder: uniform",
    ]
    assert "ladder: layers of model 1" in origins
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    names = [other.name for other in evolved.report.others]
    assert any(name.startswith("task arithmetic, tuned to") for name in names)
    assert "uniform average" in names
    uniform = evolved.report.others[names.index("uniform average")]
    ladder = next(trial for trial in evolved.trials if trial.origin == "ladder: uniform")
    # the average of the experts is the sum of half their task vectors
    assert uniform.validation.mean() == pytest.approx(ladder.score, rel=1e-4)
    assert report["item_evaluations"]["searching"] == sum(trial.cost for trial in evolved.trials)
    assert len(forecasted) == 1
    assert StudyReading.open(tmp_path / "out").names == Search.open(spec).space.names


def test_the_space_is_both(joint):
    checked = Search.open(SearchSpec.from_dict(joint))
    problem = checked.space.problem
    assert problem.choices == (0, 0, 5, 5, 5)
    assert len(problem.start) == len(checked.space.names) == len(checked.space.domains) == 5
    assert not checked.problem.gradients
    assert {str(ref) for ref in checked.models} == {
        joint["recipe"]["base_model"],
        *(model["model"] for model in joint["recipe"]["models"]),
    }
    assert {name for name, _ in problem.known} >= {"uniform", "layers of model 1"}
    run = get_algorithm("staged").start(problem, checked.spec.search.for_algorithm)
    assert np.shape(run.ask()[0].point) == (5,)
    joint["recipe"]["models"][0]["parameters"]["weight"]["by"] = "layer"
    levels = Search.open(SearchSpec.from_dict(joint)).space.problem.levels
    assert [max(level) + 1 for level in levels] == sorted(max(level) + 1 for level in levels)
    assert max(levels[-1]) + 1 == len(levels[-1])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"models": ["{one}", "evolved"]}, r"^paths\.models: with joint: true, evolved is the first one"),
        ({"models": ["evolved", "evolved"]}, r"^paths\.models: with joint: true, evolved is the first one"),
        ({"search": {"trials": 5}}, r"joint: true is one search"),
    ],
)
def test_what_cannot_be_searched_together_is_said(joint, change, says):
    one = joint["recipe"]["models"][0]["model"]
    models = [model.format(one=one) for model in change.get("models", joint["paths"]["models"])]
    joint["paths"] |= change | {"models": models}
    with pytest.raises(RecipeError, match=says):
        Search.open(SearchSpec.from_dict(joint))
