from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from mergery.errors import RecipeError
from mergery.evolve import SearchSettings, SearchSpec, TaskSpec

TEXT = """
recipe: {merge_method: linear}
search: {trials: 5}
task: {validation: v.jsonl, test: t.jsonl}
"""

TWO = """
recipe: {merge_method: linear}
search: {budget: 900}
tasks:
  sums: {validation: a.jsonl, test: b.jsonl, evaluator: likelihood, weight: 2}
  words: {validation: c.jsonl, test: d.jsonl, confirm: e.jsonl}
"""


def load(tmp_path, text):
    path = tmp_path / "search.yml"
    path.write_text(text)
    return SearchSpec.load(path)


def test_defaults(tmp_path):
    spec = load(tmp_path, TEXT)
    assert spec.recipe == {"merge_method": "linear"}
    assert spec.search == SearchSettings(trials=5)
    settings = spec.search
    assert (settings.algorithm, settings.seed, settings.population) == ("staged", 0, None)
    assert (settings.budget, settings.racing, settings.references) == (None, None, None)
    assert spec.tasks == {"task": TaskSpec(Path("v.jsonl"), Path("t.jsonl"))}
    (task,) = spec.tasks.values()
    assert (task.evaluator, task.confirm, task.weight) == ("exact_match", 0.25, 1.0)


def test_several_tasks(tmp_path):
    spec = load(tmp_path, TWO)
    assert spec.search == SearchSettings(budget=900)
    assert spec.tasks == {
        "sums": TaskSpec(Path("a.jsonl"), Path("b.jsonl"), "likelihood", weight=2.0),
        "words": TaskSpec(Path("c.jsonl"), Path("d.jsonl"), confirm=Path("e.jsonl")),
    }


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        TWO,
        TEXT.replace("trials: 5", "trials: 5, population: 7, sigma: 0.25, seed: 9"),
        TEXT.replace("trials: 5", "budget: 5, racing: true, references: false, finalists: 3"),
        TEXT.replace(
            "trials: 5", "trials: 5, items: 7, objectives: true, workers: 2, launcher: ray, timeout: 1.5"
        ),
        TEXT.replace("t.jsonl", "t.jsonl, confirm: 0"),
        TEXT.replace("t.jsonl", "t.jsonl, confirm: 0.5, weight: 3"),
        TEXT.replace("task: {", "tasks: {task: {").replace("t.jsonl}", "t.jsonl}}"),
    ],
)
def test_what_is_written_is_read(tmp_path, text):
    spec = load(tmp_path, text)
    assert load(tmp_path, spec.to_yaml()) == spec
    # and every setting that was written counts
    assert SearchSpec.from_dict(spec.to_dict()) == spec


def test_what_is_usual_is_not_written(tmp_path):
    assert load(tmp_path, TEXT).to_dict() == {
        "recipe": {"merge_method": "linear"},
        "search": {"trials": 5, "algorithm": SearchSettings().algorithm, "seed": 0},
        "task": {"evaluator": "exact_match", "validation": "v.jsonl", "test": "t.jsonl"},
    }
    written = load(tmp_path, TEXT.replace("t.jsonl", "t.jsonl, confirm: 0")).to_dict()
    assert written["task"]["confirm"] == 0


def test_the_algorithm_is_told_its_settings():
    settings = SearchSettings(seed=9, population=7, sigma=0.25)
    assert dataclasses.astuple(settings.for_algorithm) == (9, 7, 0.25)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("trials: 5", "trails: 5", r"search\.trails: unknown key\nfix: did you mean trials"),
        ("search:", "serch:", r"serch: unknown key\nfix: did you mean search"),
        ("test: t", "tset: t", r"task\.tset: unknown key\nfix: did you mean test"),
        ("trials: 5", "trials: 0", r"search\.trials: .*got 0"),
        ("trials: 5", "trials: true", r"search\.trials: expected a whole number, got True"),
        ("trials: 5", "budget: 0", r"search\.budget: .*got 0"),
        ("trials: 5", "budget: 1.5", r"search\.budget: .*got 1.5"),
        ("trials: 5", "trials: 5, sigma: 0", r"search\.sigma: .*got 0"),
        ("trials: 5", "trials: 5, population: 3", r"search\.population: .*got 3"),
        ("trials: 5", "trials: 5, seed: -1", r"search\.seed: .*got -1"),
        ("trials: 5", "trials: 5, items: 0", r"search\.items: .*got 0"),
        ("trials: 5", "trials: 5, finalists: 0", r"search\.finalists: .*got 0"),
        ("trials: 5", "trials: 5, workers: 0", r"search\.workers: .*got 0"),
        ("trials: 5", "trials: 5, timeout: 0", r"search\.timeout: .*got 0"),
        ("trials: 5", "trials: 5, storage: trials.db", r"search\.storage: .*got 'trials.db'"),
        ("trials: 5", "trials: 5, launcher: slurm", r"search\.launcher: .*got 'slurm'"),
        ("trials: 5", "seed: 1", r"search: says neither trials nor budget"),
        ("{trials: 5}", "5", r"search: "),
        (", test: t.jsonl", "", r"task\.test: missing"),
        ("t.jsonl", "t.jsonl, confirm: 1", r"task\.confirm.*: expected a path, or a share"),
        ("t.jsonl", "t.jsonl, confirm: -0.1", r"task\.confirm.*: expected a path, or a share"),
        ("t.jsonl", "t.jsonl, weight: 0", r"task\.weight: .*got 0"),
        ("t.jsonl", "t.jsonl, weight: .inf", r"task\.weight: .*got inf"),
        ("task: {validation: v.jsonl, test: t.jsonl}", "", r"task: missing"),
        ("task: {validation: v.jsonl, test: t.jsonl}", "tasks: {}", r"task: missing"),
        ("task: {", "tasks: {a: {validation: w, test: u}}\ntask: {", r"tasks: there is a task, too"),
        ("{merge_method: linear}", "zoo", r"recipe: "),
    ],
)
def test_a_wrong_search_file_is_named(tmp_path, old, new, says):
    assert old in TEXT
    with pytest.raises(RecipeError, match=f"^{says}"):
        load(tmp_path, TEXT.replace(old, new))


def test_a_wrong_task_of_several_is_named(tmp_path):
    with pytest.raises(RecipeError, match=r"^tasks\.words\.tset: unknown key\nfix: did you mean test"):
        load(tmp_path, TWO.replace("test: d", "tset: d"))


def test_what_is_no_file_and_no_yaml(tmp_path):
    with pytest.raises(RecipeError, match="cannot be read"):
        SearchSpec.load(tmp_path / "nowhere.yml")
    with pytest.raises(RecipeError, match="expected one mapping"):
        load(tmp_path, "- a\n")
