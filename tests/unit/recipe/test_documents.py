"""Files of one recipe, and of several that use each other."""

from __future__ import annotations

import pytest

from mergery.checkpoint import ModelRef
from mergery.errors import RecipeError, RecipeErrors
from mergery.recipe import Recipe, read_file, read_yaml

# the shape of mergekit's guide to several merges in one file: two first, then one of their results
STAGES = """
name: fluent
merge_method: linear
models: [{model: org/one}, {model: org/two}]
---
name: able
merge_method: task_arithmetic
base_model: org/base
models: [{model: org/three}]
---
merge_method: slerp
base_model: fluent
models: [{model: able}]
parameters: {t: 0.5}
"""


def places(text: str) -> list[str]:
    return [mistake.message for mistake in read_yaml(text).mistakes]


def test_names_stand_for_recipes():
    recipe = Recipe.from_yaml(STAGES)
    fluent, able = (Recipe.from_yaml(part) for part in STAGES.split("---")[:2])
    assert recipe.base_model == fluent
    assert recipe.slices[0].sources[0].model == able
    assert [str(model) for model in recipe.models] == ["org/three", "org/base", "org/one", "org/two"]
    assert recipe.notes == ()
    # the same, nested by hand
    able_data, fluent_data = able.to_dict(), fluent.to_dict()
    by_hand = {
        "merge_method": "slerp",
        "base_model": fluent_data,
        "models": [{"model": able_data}],
        "parameters": {"t": 0.5},
    }
    assert Recipe.from_dict(by_hand).digest == recipe.digest
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe


def test_the_order_of_the_documents_says_nothing_where_one_has_no_name():
    first, second, last = STAGES.split("---")
    assert Recipe.from_yaml("---".join([last, second, first])) == Recipe.from_yaml(STAGES)


def test_of_named_documents_the_last_is_the_result():
    assert Recipe.from_yaml(STAGES + "name: result") == Recipe.from_yaml(STAGES)
    only = Recipe.from_yaml("name: linear\nmerge_method: linear\nmodels: [{model: a/x}, {model: a/y}]")
    assert only.merge_method == "linear"


def test_only_models_are_looked_up_by_name():
    # mergekit takes the method's name for the document's, and sees a circle
    text = "name: linear\nmerge_method: linear\nmodels: [{model: a/x}]\n---\nmerge_method: linear\n"
    recipe = Recipe.from_yaml(text + "models: [{model: linear}, {model: {path: linear}}]")
    inner, literal = (source.model for source in recipe.slices[0].sources)
    assert isinstance(inner, Recipe)
    assert literal == ModelRef("linear")


def test_a_document_that_is_not_used_is_checked_and_noted():
    unused = "name: spare\nmerge_method: linear\nmodels: [{model: a/x}]\n---"
    assert Recipe.from_yaml(unused + STAGES).notes == ("spare: the result does not use it",)
    assert places(unused.replace("model:", "modle:") + STAGES) == ["spare.models[0].modle: unknown key"]


def test_mistakes_of_every_document_are_said_once():
    text = STAGES.replace("models: [{model: org/one}, ", "models: [{modle: org/one}, ")
    text = text.replace("org/three}]", "org/three}]\nparameters: {lamda: 1}").replace("t: 0.5", "t: x")
    assert places(text) == [
        "parameters.t: t is a number, got 'x'",
        "fluent.models[0].modle: unknown key",
        "able.parameters.lamda: unknown parameter of task_arithmetic",
    ]


ONE = "merge_method: linear\nmodels: [{model: %s}]\n"


@pytest.mark.parametrize(
    ("text", "message", "fix"),
    [
        (f"{ONE % 'a/x'}---\n{ONE % 'a/y'}", "name: missing in a second document", "a name"),
        (f"name: a\n{ONE % 'a/x'}---\nname: a\n{ONE % 'a/y'}", "name: two recipes are called a", "its own"),
        (f"name: 3\n{ONE % 'a/x'}", "name: expected a text, got 3", "in quotes"),
        (f"name: me\n{ONE % 'me'}", "me.models[0].model: me uses me", "make no recipe out of itself"),
        (
            f"name: a\n{ONE % 'b'}---\nname: b\n{ONE % 'c'}---\nname: c\n{ONE % 'a'}---\n{ONE % 'b'}",
            "a.models[0].model: b uses c uses a uses b",
            "make no recipe out of itself",
        ),
        (
            f"name: stage-one\n{ONE % 'a/x'}---\n{ONE % 'stage_one'}",
            "models[0].model: stage_one is neither a recipe of this file nor a directory",
            "did you mean stage-one?",
        ),
        (
            f"name: one\n{ONE % 'a/x'}---\ntokenizer_source: one\n{ONE % 'one'}",
            "tokenizer_source: one is a recipe of this file, which has no tokenizer",
            "name one of the models",
        ),
        ("", "recipe: expected a mapping, got None", "merge_method: linear"),
        ("- 1", "recipe: expected a mapping, got [1]", "merge_method: linear"),
        (
            "merge_method: linear\nmerge_method: ties",
            "recipe: line 2: 'merge_method' is written twice",
            "YAML",
        ),
        ("merge_method: [", "recipe: line ", "correct the YAML there"),
        ("? [a]\n: 1", "recipe: line 1: ", "correct the YAML there"),
    ],
)
def test_files_that_are_wrong(text, message, fix):
    with pytest.raises(RecipeError) as caught:
        Recipe.from_yaml(text)
    assert not isinstance(caught.value, RecipeErrors), str(caught.value)
    assert caught.value.message.startswith(message)
    assert fix in caught.value.fix


def test_a_directory_may_have_a_plain_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "expert").mkdir()
    recipe = Recipe.from_yaml(f"name: one\n{ONE % 'expert'}---\n{ONE % 'one'}")
    assert recipe.models == (ModelRef("expert"),)


def test_empty_documents_are_nothing():
    assert Recipe.from_yaml(f"---\n{ONE % 'a/x'}---\n") == Recipe.from_yaml(ONE % "a/x")


def test_files(tmp_path):
    file = tmp_path / "recipe.yml"
    file.write_text(STAGES)
    assert Recipe.load(file) == Recipe.load(str(file)) == Recipe.from_yaml(STAGES)
    with pytest.raises(RecipeError, match=r"none\.yml: cannot be read"):
        Recipe.load(tmp_path / "none.yml")
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="not UTF-8"):
        Recipe.load(file)
    file.write_text("merge_method: [")
    (mistake,) = read_file(file).mistakes
    assert mistake.message.startswith(f"{file}: line ")
