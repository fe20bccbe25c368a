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

from mergery.errors import CheckpointError, DataError, MergeryError, RecipeError, StudyError
from mergery.evaluate import evaluate
from mergery.evolve import SearchSpec, evolve
from mergery.evolve.fitness import Fitness
from mergery.recipe import Recipe


def essence(evolved):
    return [(trial.genome, trial.score, trial.recipe) for trial in evolved.trials]


def files(out: Path) -> list[str]:
    return sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())


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
        assert report["best"][split]["score"] == scores.value
        assert report["best"][split]["low"] < scores.value < report["best"][split]["high"]
        for other, ref in zip(report["others"], ("base", "one", "two"), strict=True):
            assert Path(other["name"]).name == ref
            alone = evaluate(other["name"], getattr(spec.tasks["task"], split), evaluator="likelihood")
            assert other[split]["score"] == alone.value
    # what the search saw in memory is what anybody sees on disk
    assert report["best"]["claimed_validation"] == report["best"]["validation"]["score"]
    assert report["best"]["claimed_validation"] == max(trial.score for trial in evolved.trials)
    assert [other["role"] for other in report["others"]] == ["base", "parent", "parent"]
    assert report["trials"] == 12
    assert report["items"] == {"validation": 20, "test": 30}
    assert all(seconds > 0 for seconds in report["seconds"].values())


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


@pytest.mark.parametrize("lost", ["model", "report.json", "search.png", "best.yml", "study/ledger.sqlite"])
def test_what_a_kill_left_unfinished_is_finished(spec, out, lost):
    evolve(spec, out)
    before = {name: (out / name).read_bytes() for name in ("best.yml", "model/model.safetensors")}
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
    # the ledger gave their seconds, too
    assert [t.score_seconds for t in first.trials] == [t.score_seconds for t in second.trials]


def test_exact_match_is_a_proportion_with_wilsons_interval(search, out):
    search["task"]["evaluator"] = "exact_match"
    evolved = evolve(SearchSpec.from_dict(search), out)
    interval = evolved.report.interval(evolved.report.best.test)
    outcomes = evolved.report.best.test.outcomes
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
