"""Recipes: what is read, what is refused and with which words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mergery.errors import RecipeError
from mergery.recipe import Recipe
from mergery.recipe.settings import evaluate, parse_setting

TIES = """
merge_method: ties
base_model: org/base@v1
models:
  - model: org/one
    parameters: {weight: 0.5, density: [0.1, 0.5]}
  - model: ./two
    parameters:
      weight:
        - {filter: self_attn, value: [0, 1]}
        - value: 1
parameters: {normalize: true, lambda: 1.1, int8_mask: true}
dtype: torch.bfloat16
"""


def test_reads_mergekit_yaml_and_writes_it_back():
    recipe = Recipe.from_yaml(TIES)
    assert recipe.merge_method == "ties"
    assert [str(model) for model in recipe.models] == ["org/one", "./two", "org/base@v1"]
    assert recipe.base_model.revision == "v1"
    assert recipe.dtype == "bfloat16"
    assert recipe.parameters == {"normalize": True, "lambda": 1.1}
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe


def test_slices_survive_the_round_trip():
    recipe = Recipe.from_dict(
        {
            "merge_method": "passthrough",
            "slices": [
                {"sources": [{"model": "a/b", "layer_range": [0, 4]}]},
                {
                    "sources": [{"model": "a/c", "layer_range": [2, 4], "parameters": {"scale": 0.5}}],
                    "parameters": {"scale": [1, 0]},
                },
            ],
        }
    )
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe


def test_the_digest_is_of_the_content():
    recipe = Recipe.from_yaml(TIES)
    assert Recipe.from_yaml(recipe.to_yaml()).digest == recipe.digest
    assert Recipe.from_yaml(TIES.replace("0.5", "0.6")).digest != recipe.digest


LINEAR = {"merge_method": "linear", "models": [{"model": "a/x"}, {"model": "a/y"}]}
ARITHMETIC = {**LINEAR, "merge_method": "task_arithmetic", "base_model": "a/b"}


@pytest.mark.parametrize(
    ("data", "message", "fix"),
    [
        (LINEAR | {"merge_method": "linaer"}, "merge_method: unknown merge method 'linaer'", "linear"),
        (LINEAR | {"paramters": {}}, "paramters: unknown key", "did you mean parameters?"),
        (LINEAR | {"models": []}, "models: ", "correct the value"),
        (LINEAR | {"models": [{"modle": "a/x"}]}, "models[0].modle: unknown key", "did you mean model?"),
        (LINEAR | {"models": [{"model": 3}]}, "models[0].model: expected a path", "org/name"),
        (LINEAR | {"models": [{"model": "a/x"}] * 2}, "models: a/x is listed twice", "once"),
        (LINEAR | {"parameters": {"wieght": 1}}, "parameters.wieght: unknown parameter of linear", "weight"),
        (LINEAR | {"parameters": {"weight": "much"}}, "parameters.weight: expected a number", "number"),
        (LINEAR | {"parameters": {"weight": float("nan")}}, "weight must be finite", "number"),
        (LINEAR | {"parameters": {"normalize": 3}}, "normalize is a switch", "true or false"),
        (LINEAR | {"parameters": {"weight": []}}, "parameters.weight: an empty list", "list of numbers"),
        (
            LINEAR | {"parameters": {"weight": [{"filter": "x"}]}},
            "parameters.weight[0]: no value",
            "add value",
        ),
        (LINEAR | {"parameters": {"weight": [{"fliter": "x", "value": 1}]}}, "weight[0].fliter: unknown", ""),
        (LINEAR | {"base_model": "a/z"}, "linear averages the models that are listed", "list the base"),
        (LINEAR | {"dtype": "int8"}, "dtype: a dtype is one of", "correct"),
        (LINEAR | {"tokenizer_source": "union"}, "tokenizer_source: ", "correct"),
        (LINEAR | {"modules": {}}, "modules: not supported yet", "remove modules"),
        (LINEAR | {"slices": []}, "slices: ", "correct"),
        ({"merge_method": "linear"}, "needs models: or slices:", "write a models: list"),
        ({"models": []}, "merge_method: missing", "add merge_method:"),
        (LINEAR | {"merge_method": "ties"}, "ties needs a base", "add base_model:"),
        (ARITHMETIC | {"models": [{"model": "a/b"}]}, "takes at least 1 model besides the base, got 0", ""),
        (
            ARITHMETIC | {"merge_method": "ties", "parameters": {"density": 1.5}},
            "parameters.density: density is 1.5, outside [0, 1]",
            "inside that range",
        ),
        (
            ARITHMETIC | {"models": [{"model": "a/x", "parameters": {"lambda": 1}}]},
            "models[0].parameters.lambda: lambda of task_arithmetic is one value",
            "move lambda",
        ),
        (
            ARITHMETIC | {"merge_method": "slerp"},
            "slerp takes 2 models with the base, got 3",
            "list of models",
        ),
        (
            {"merge_method": "slerp", "base_model": "a/b", "models": [{"model": "a/x"}]},
            "slerp needs t",
            "parameters: {t: ...}",
        ),
        (
            {"merge_method": "passthrough", "base_model": "a/b", "models": [{"model": "a/x"}]},
            "passthrough has no use for a base",
            "remove base_model:",
        ),
        (
            {
                "merge_method": "linear",
                "slices": [
                    {
                        "sources": [
                            {"model": "a/x", "layer_range": [0, 2]},
                            {"model": "a/y", "layer_range": [0, 3]},
                        ]
                    }
                ],
            },
            "slices[0]: its sources have 2 and 3 layers",
            "as many layers",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_place_and_its_fix(data, message, fix):
    with pytest.raises(RecipeError) as caught:
        Recipe.from_dict(data)
    assert message in caught.value.message
    assert fix in caught.value.fix


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("merge_method: linear\nmerge_method: ties", "line 2: 'merge_method' is written twice"),
        ("merge_method: [", "line"),
        ("- 1", "expected one mapping, got list"),
        ("a: 1\n---\nb: 2", "expected one mapping, got 2 documents"),
    ],
)
def test_text_that_is_no_recipe(text, message):
    with pytest.raises(RecipeError, match="recipe"):
        Recipe.from_yaml(text)
    with pytest.raises(RecipeError) as caught:
        Recipe.from_yaml(text)
    assert message in caught.value.message


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(RecipeError, match=r"none\.yml: cannot be read"):
        Recipe.load(tmp_path / "none.yml")
    (tmp_path / "bytes.yml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="not UTF-8"):
        Recipe.load(tmp_path / "bytes.yml")


def test_settings_are_mergekits():
    gradient = parse_setting([0, 1, 0.5], where="w")
    assert [evaluate(gradient, "x", t) for t in (0, 0.25, 0.5, 0.75, 1)] == [0, 0.5, 1, 0.75, 0.5]
    filtered = parse_setting([{"filter": "attn", "value": [0, 2]}, {"filter": "mlp", "value": 3}], where="w")
    assert evaluate(filtered, "layers.0.attn.q", 0.5) == 1
    assert evaluate(filtered, "layers.0.mlp.up", 0.5) == 3
    assert evaluate(filtered, "norm", 0.5) is None
    assert evaluate(parse_setting("0.5", where="w"), "norm", 0) == 0.5
    assert evaluate(parse_setting({"filter": None, "value": 2}, where="w"), "norm", 0) == 2


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=6), st.floats(0, 1))
def test_a_gradient_stays_between_its_neighbours(values, position):
    value = evaluate(tuple(values), "x", position)
    assert min(values) - 1e-9 <= value <= max(values) + 1e-9
