from __future__ import annotations

from pathlib import Path

import pytest

from mergery.errors import RecipeError
from mergery.evolve import SearchSpec

TEXT = """
recipe: {merge_method: linear}
search: {trials: 5}
task: {validation: v.jsonl, test: t.jsonl}
"""


def load(tmp_path, text):
    path = tmp_path / "search.yml"
    path.write_text(text)
    return SearchSpec.load(path)


def test_defaults(tmp_path):
    spec = load(tmp_path, TEXT)
    assert spec.recipe == {"merge_method": "linear"}
    assert (spec.search.algorithm, spec.search.seed, spec.search.population) == ("cma-es", 0, None)
    assert (spec.task.evaluator, spec.task.test) == ("exact_match", Path("t.jsonl"))


def test_what_is_written_is_read(tmp_path):
    spec = load(tmp_path, TEXT.replace("trials: 5", "trials: 5, population: 7, sigma: 0.25, seed: 9"))
    assert load(tmp_path, spec.to_yaml()) == spec


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("trials: 5", "trails: 5", r"search\.trails: unknown key\nfix: did you mean trials"),
        ("search:", "serch:", r"serch: unknown key\nfix: did you mean search"),
        ("test: t", "tset: t", r"task\.tset: unknown key\nfix: did you mean test"),
        ("trials: 5", "trials: 0", r"search\.trials: .*got 0"),
        ("trials: 5", "trials: true", r"search\.trials: expected a whole number, got True"),
        ("trials: 5", "trials: 5, sigma: 0", r"search\.sigma: .*got 0"),
        ("trials: 5", "trials: 5, population: 3", r"search\.population: .*got 3"),
        ("trials: 5", "trials: 5, seed: -1", r"search\.seed: .*got -1"),
        ("trials: 5", "seed: 1", r"search\.trials: missing"),
        ("{trials: 5}", "5", r"search: "),
        (", test: t.jsonl", "", r"task\.test: missing"),
        ("{merge_method: linear}", "zoo", r"recipe: "),
    ],
)
def test_a_wrong_search_file_is_named(tmp_path, old, new, says):
    with pytest.raises(RecipeError, match=f"^{says}"):
        load(tmp_path, TEXT.replace(old, new))


def test_what_is_no_file_and_no_yaml(tmp_path):
    with pytest.raises(RecipeError, match="cannot be read"):
        SearchSpec.load(tmp_path / "nowhere.yml")
    with pytest.raises(RecipeError, match="expected one mapping"):
        load(tmp_path, "- a\n")
