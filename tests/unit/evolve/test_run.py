"""Whole searches on real tiny models."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from mergery.engine import merge
from mergery.errors import CheckpointError, DataError, MergeryError, RecipeError, StudyError
from mergery.evaluate import evaluate
from mergery.evolve import SearchSpec, evolve, importance
from mergery.evolve.fitness import Fitness
from mergery.evolve.references import SCALES
from mergery.recipe import Recipe


def essence(evolved):
    return [(trial.genome, trial.score, trial.recipe) for trial in evolved.trials]


def files(out: Path) -> list[str]:
    return sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())


@pytest.fixture(autouse=True)
def one_picture(request, monkeypatch):
    """A panel for each of nine knobs takes longer than the search: it is drawn by the first test only."""
    if request.node.name != "test_a_search_leaves_a_recipe_its_model_and_a_report":
        monkeypatch.setattr(importance, "draw_sensitivity", lambda path, *_, **__: path.write_bytes(b"png"))


@pytest.fixture
def spec(search):
    return SearchSpec.from_dict(search)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def test_a_search_leaves_a_recipe_its_model_and_a_report(spec, out):
    evolved = evolve(spec, out)
    assert {"best.yml", "report.json", "search.png", "study/journal.log", "study/search.yml"} <= {*files(out)}
    best = max(evolved.trials, key=lambda trial: trial.score)
    assert Recipe.load(out / "best.yml") == evolved.best
    assert evolved.best.digest == best.recipe
    # the model is the recipe's: base plus weighted task vectors, computed here by hand
    found = load_file(out / "model" / "model.safetensors")
    base, one, two = (
        AutoModelForCausalLM.from_pretrained(str(ref.path)).state_dict()
        for ref in (evolved.best.base_model, *evolved.best.models[:2])
    )
    name = "model.layers.1.mlp.up_proj.weight"
    genome = dict(zip(range(9), best.genome, strict=True))
    expected = base[name] + genome[4] * (one[name] - base[name]) + genome[8] * (two[name] - base[name])
    torch.testing.assert_close(found[name], expected, rtol=1e-5, atol=1e-6)


def test_the_reported_scores_are_those_of_the_written_models(spec, out):
    evolved = evolve(spec, out)
    report = json.loads((out / "report.json").read_text())
    for split in ("validation", "test"):
        scores = evaluate(out / "model", getattr(spec.tasks["task"], split), evaluator="likelihood")
        # the items are asked in another order, and so in other batches
        assert report["best"][split]["score"] == pytest.approx(scores.value, rel=1e-6)
        assert report["best"][split]["low"] < scores.value < report["best"][split]["high"]
        for other, ref in zip(report["others"][:3], ("base", "one", "two"), strict=True):
            assert Path(other["name"]).name == ref
            alone = evaluate(other["name"], getattr(spec.tasks["task"], split), evaluator="likelihood")
            assert other[split]["score"] == pytest.approx(alone.value, rel=1e-6)
    # what the search saw in memory is what anybody sees on disk
    assert report["best"]["claimed_validation"] == report["best"]["validation"]["score"]
    assert report["best"]["claimed_validation"] == max(trial.score for trial in evolved.trials)
    assert [other["role"] for other in report["others"]] == ["base", "parent", "parent", "plain", "plain"]
    assert report["trials"] == 12
    assert report["items"] == {"validation": 20, "test": 30}
    assert report["item_evaluations"] == {"searching": 12 * 20, "confirming": 0}
    assert all(seconds > 0 for seconds in report["seconds"].values())


def test_plain_merges_of_the_same_models_stand_beside_the_winner(spec, out, tmp_path):
    """Each written by the engine, and scored from its file."""
    evolve(spec, out)
    others = json.loads((out / "report.json").read_text())["others"]
    uniform, tuned = others[3:]
    models = [{"model": model["model"]} for model in spec.recipe["models"]]

    def alone(name, split, **recipe):
        if not (tmp_path / name).exists():
            merge(Recipe.from_dict({"models": models, **recipe}), tmp_path / name)
        return evaluate(tmp_path / name, getattr(spec.tasks["task"], split), evaluator="likelihood").value

    assert uniform["name"] == "uniform average"
    scaled = {}
    for scale in SCALES:
        recipe = {
            "merge_method": "task_arithmetic",
            "base_model": spec.recipe["base_model"],
            "parameters": {"weight": scale},
        }
        scaled[scale] = alone(f"scale{scale}", "validation", **recipe)
    best = max(scaled, key=scaled.get)
    assert tuned["name"] == f"task arithmetic, tuned to {best:g}"
    for split in ("validation", "test"):
        linear = alone("linear", split, merge_method="linear")
        assert uniform[split]["score"] == pytest.approx(linear, rel=1e-6)
        assert tuned[split]["score"] == pytest.approx(alone(f"scale{best}", split), rel=1e-6)


def test_equal_searches_give_equal_bytes(spec, out, tmp_path):
    evolve(spec, out)
    evolve(spec, tmp_path / "again")
    for name in ("best.yml", "model/model.safetensors", "search.png"):
        assert (out / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_called_again_it_changes_nothing(spec, out):
    first = evolve(spec, out)
    kept = {name: (out / name).read_bytes() for name in files(out) if "ledger" not in name}
    stamp = (out / "model" / "model.safetensors").stat().st_mtime_ns
    second = evolve(spec, out, progress=lambda progress: pytest.fail("a trial was repeated"))
    assert essence(first) == essence(second)
    assert {name: (out / name).read_bytes() for name in files(out) if "ledger" not in name} == kept
    assert (out / "model" / "model.safetensors").stat().st_mtime_ns == stamp


def test_more_trials_continue_the_search(search, out, tmp_path):
    few = search | {"search": dict(search["search"]) | {"trials": 4}}
    evolve(SearchSpec.from_dict(few), out)
    steps = []
    more = evolve(SearchSpec.from_dict(search), out, progress=steps.append)
    assert [step.trial for step in steps] == list(range(5, 13))
    whole = evolve(SearchSpec.from_dict(search), tmp_path / "whole")
    assert essence(more) == essence(whole)
    for name in ("best.yml", "model/model.safetensors", "search.png", "study/search.yml"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_what_a_kill_left_unfinished_is_finished(spec, out):
    evolve(spec, out)
    before = {name: (out / name).read_bytes() for name in ("best.yml", "model/model.safetensors")}
    for lost in ("model", "report.json", "search.png", "best.yml", "study/ledger.sqlite"):
        shutil.rmtree(out / lost) if (out / lost).is_dir() else (out / lost).unlink()
        evolve(spec, out)
        assert {name: (out / name).read_bytes() for name in before} == before
        assert (out / lost).exists()


def test_scores_not_yet_recorded_are_taken_from_the_ledger(spec, out):
    """The journal loses its last two lines, as if the search had been killed before it wrote them."""
    first = evolve(spec, out)
    journal = out / "study" / "journal.log"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:-2]))
    second = evolve(spec, out)
    assert essence(first) == essence(second)
    # the last was neither merged nor asked again
    assert second.trials[-1].build_seconds == 0.0 < first.trials[-1].build_seconds
    assert second.trials[:-1] == first.trials[:-1]


def test_exact_match_is_a_proportion_with_wilsons_interval(search, out):
    search["task"]["evaluator"] = "exact_match"
    evolved = evolve(SearchSpec.from_dict(search), out)
    interval = evolved.report.interval(evolved.report.best)
    outcomes = evolved.report.best.test
    assert interval.estimate == outcomes.mean(dtype=np.float64)
    assert 0 <= interval.low <= interval.estimate <= interval.high <= 1
    assert interval.high - interval.low > 0.1


def test_random_search_is_a_search_too(search, out):
    search["search"] = {"algorithm": "random", "trials": 5}
    assert len(evolve(SearchSpec.from_dict(search), out).trials) == 5


def test_weights_that_overflow_are_failed_trials(search, out):
    search["recipe"]["out_dtype"] = "float16"
    for model in search["recipe"]["models"]:
        model["parameters"]["weight"] = {"search": [-4e5, 4e5]}
    search["search"] = {"algorithm": "random", "trials": 20}
    evolved = evolve(SearchSpec.from_dict(search), out)
    failed = [trial for trial in evolved.trials if trial.score is None]
    assert 0 < len(failed) < 20
    assert all("NaN or infinite" in trial.failure for trial in failed)
    assert json.loads((out / "report.json").read_text())["failed_trials"] == len(failed)


def test_a_search_in_which_all_fails_says_why(search, out):
    search["recipe"]["out_dtype"] = "float16"
    for model in search["recipe"]["models"]:
        model["parameters"]["weight"] = {"search": [1e7, 1e8]}
    with pytest.raises(StudyError, match=r"all 12 trials failed, the first because .*NaN or infinite"):
        evolve(SearchSpec.from_dict(search), out)
    assert not (out / "model").exists()


def spoil(search, tmp_path, what):
    match what:
        case "overlap":
            text = Path(search["task"]["validation"]).read_text().splitlines()[4]
            path = Path(search["task"]["test"])
            path.write_text(path.read_text() + text + "\n")
        case "items":
            search["task"]["test"] = str(tmp_path / "nowhere.jsonl")
        case "answer":
            Path(search["task"]["test"]).write_text('{"prompt": "a"}\n')
        case "evaluator":
            search["task"]["evaluator"] = "exactmatch"
        case "algorithm":
            search["search"]["algorithm"] = "cmaes"
        case "setting":
            search["search"]["algorithm"] = "random"
        case "knob":
            search["recipe"]["models"][0]["parameters"]["weight"] = {"serch": [0, 1]}
        case "model":
            search["recipe"]["models"][0]["model"] = str(tmp_path / "nowhere")
        case "context":
            Path(search["task"]["validation"]).write_text(
                json.dumps({"prompt": "a " * 70, "answer": " b"}) + "\n"
            )
        case "confirm":
            search["task"]["confirm"] = 0.01
        case "confirm file":
            search["task"]["confirm"] = search["task"]["test"]
        case "budget":
            search["search"] = {"budget": 19}
        case "budget for finalists":
            # 5 of 20 items are held back: 8 finalists on 1, 4 on 1 more, 1 on 3 more; 15 items for a trial
            search["task"]["confirm"] = 0.25
            search["search"] = {"budget": 8 + 4 + 3 + 14, "finalists": 8}
        case "method":
            search["recipe"]["merge_method"] = {"search": ["task_arithmetic", "tiess"]}
        case "parameter":
            search["recipe"]["merge_method"] = {"search": ["task_arithmetic", "ties"]}
            search["recipe"]["parameters"] = {"densty": 0.5}
    return search


@pytest.mark.parametrize(
    ("what", "error", "says"),
    [
        ("overlap", DataError, "1 of its 20 items are also in"),
        ("items", DataError, "No such file"),
        ("answer", DataError, "no answer"),
        (
            "evaluator",
            DataError,
            r"task\.evaluator: unknown .*'exactmatch'\nfix: did you mean exact_match",
        ),
        ("algorithm", RecipeError, r"search\.algorithm: unknown .* 'cmaes'\nfix: did you mean cma-es"),
        ("setting", RecipeError, r"search\.population: random has no population"),
        ("knob", RecipeError, r"recipe\.models\[0\]\.parameters\.weight\.serch: unknown key"),
        ("model", CheckpointError, "does not exist"),
        ("context", DataError, r"validation\.jsonl:1: 71 tokens, and the model takes 64"),
        ("confirm", DataError, r"20 items are too few to hold back a share of 0\.01"),
        ("confirm file", DataError, r"test\.jsonl: 30 of its 30 items are also in"),
        (
            "budget",
            RecipeError,
            r"search\.budget: 19 item evaluations leave none for trials\nfix: give 1 more",
        ),
        ("budget for finalists", RecipeError, r"search\.budget: 29 .*\nfix: give 1 more, fewer finalists"),
        ("method", RecipeError, r"recipe\.merge_method\.search: unknown .*'tiess'\nfix: did you mean ties"),
        ("parameter", RecipeError, r"recipe\.parameters\.densty: unknown parameter of task_arithmetic"),
    ],
)
def test_a_mistake_is_told_and_nothing_is_written(search, out, tmp_path, what, error, says):
    spoiled = spoil(search, tmp_path, what)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(error, match=says):
        evolve(SearchSpec.from_dict(spoiled), out)
    assert sorted(tmp_path.rglob("*")) == before


def test_changed_models_or_items_are_another_search(spec, out, make_model):
    evolve(spec, out)
    before = {name: (out / name).read_bytes() for name in files(out) if "ledger" not in name}
    make_model("two", 5, near=0)
    with pytest.raises(StudyError, match="holds the record of another search"):
        evolve(spec, out)
    assert {name: (out / name).read_bytes() for name in files(out) if "ledger" not in name} == before


def test_an_occupied_directory_is_left_alone(spec, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes").write_text("x")
    with pytest.raises(MergeryError, match="already holds something"):
        evolve(spec, tmp_path / "mine")
    assert files(tmp_path / "mine") == ["notes"]


def test_fitness_scores_recipes_without_writing(search, spec, tmp_path):
    plain = dict(search["recipe"])
    plain["models"] = [
        model | {"parameters": {"weight": weight}}
        for model, weight in zip(plain["models"], (0.5, 0.25), strict=True)
    ]
    recipe = Recipe.from_dict(plain)
    before = sorted(tmp_path.rglob("*"))
    fitness = Fitness.open(recipe, spec.tasks["task"].validation, evaluator="likelihood")
    half = fitness.score(recipe)
    nothing = fitness.score(Recipe.from_dict(plain | {"parameters": {"lambda": 0.0}}))
    assert sorted(tmp_path.rglob("*")) == before
    base = evaluate(search["recipe"]["base_model"], spec.tasks["task"].validation, evaluator="likelihood")
    assert nothing.scores.value == base.value != half.scores.value
    assert half.build_seconds > 0
    assert half.score_seconds > 0
