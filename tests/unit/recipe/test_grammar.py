"""What is refused, and with which words."""

from __future__ import annotations

import pytest

from mergery.errors import RecipeError, RecipeErrors
from mergery.recipe import Recipe, read_yaml

LINEAR = {"merge_method": "linear", "models": [{"model": "a/x"}, {"model": "a/y"}]}
ARITHMETIC = {**LINEAR, "merge_method": "task_arithmetic", "base_model": "a/b"}
SLERP = {"merge_method": "slerp", "base_model": "a/b", "models": [{"model": "a/x"}], "parameters": {"t": 0.5}}


def layers(*sources: object, **rest: object) -> dict[str, object]:
    """A linear recipe of one slice."""
    return {"merge_method": "linear", "slices": [{"sources": list(sources), **rest}]}


def source(model: str = "a/x", layer_range: object = (0, 2)) -> dict[str, object]:
    return {"model": model, "layer_range": layer_range}


MISTAKES = [
    # names and keys
    (LINEAR | {"merge_method": "linaer"}, "merge_method: unknown merge method 'linaer'", "linear"),
    (LINEAR | {"merge_method": ["linear"]}, "merge_method: expected a text", "write a text"),
    ({"models": [{"model": "a/x"}]}, "merge_method: missing", "add merge_method:"),
    (LINEAR | {"merge_method": None}, "merge_method: missing", "add merge_method:"),
    (LINEAR | {"paramters": {}}, "paramters: unknown key", "did you mean parameters?"),
    (LINEAR | {3: 4}, "[3]: unknown key", "use one of"),
    ([1], "recipe: expected a mapping, got [1]", "merge_method: ..."),
    (LINEAR | {"parameters": [1]}, "parameters: expected a mapping, got [1]", "name: value"),
    # models, slices, modules
    (LINEAR | {"models": []}, "models: an empty list", "give it an entry"),
    (LINEAR | {"models": "a/x"}, "models: expected a list, got 'a/x'", "with - before each"),
    (LINEAR | {"models": ["a/x"]}, "models[0]: expected a mapping, got 'a/x'", "model: ..."),
    (LINEAR | {"models": [{"modle": "a/x"}]}, "models[0].modle: unknown key", "did you mean model?"),
    (LINEAR | {"models": [{"parameters": {}}]}, "models[0].model: missing", "add model:"),
    (LINEAR | {"models": [source()]}, "models[0].layer_range: unknown key", "use one of: model, parameters"),
    (
        {"merge_method": "linear"},
        "needs models:, slices: or modules:, and only one of them, got none",
        "models:",
    ),
    (LINEAR | {"slices": [{"sources": [source()]}]}, "got models and slices", "keep models: or slices:"),
    ({"merge_method": "linear", "slices": []}, "slices: an empty list", "entry"),
    ({"merge_method": "linear", "slices": [{}]}, "slices[0].sources: missing", "add sources:"),
    (layers({"model": "a/x"}), "slices[0].sources[0].layer_range: missing", "add layer_range:"),
    (
        layers(source(layer_range=[0, -1])),
        "layer_range: expected [first, last + 1]",
        "count the layers from 0",
    ),
    (layers(source(layer_range=[2, 2])), "0 <= first <= last, got [2, 2]", "count the layers from 0"),
    (layers(source(layer_range=[0])), "layer_range: expected [first, last + 1]", "two whole numbers"),
    (layers(source(layer_range="0-4")), "layer_range: expected [first, last + 1]", "two whole numbers"),
    (
        layers(source(layer_range=[0, 1.5])),
        "layer_range[1]: expected a whole number, got 1.5",
        "whole number",
    ),
    (
        layers(source(), source("a/y", [0, 3])),
        "slices[0]: its sources have 2 and 3 layers",
        "as many layers",
    ),
    ({"merge_method": "linear", "modules": {}}, "modules: expected a mapping of modules", "text_decoder"),
    (
        {"merge_method": "linear", "modules": {"vision": {"parameters": {"weight": 1}}}},
        "modules.vision: needs models: or slices:, and only one of them, got none",
        "write a models: list",
    ),
    (
        {"merge_method": "linear", "modules": {"vision": {"models": [{"model": 3}]}}},
        "modules.vision.models[0].model: expected a path",
        "org/name",
    ),
    (
        {"merge_method": "linear", "modules": {"vision": ["a/x"]}},
        "modules.vision: expected a mapping",
        "models",
    ),
    # references to models
    (LINEAR | {"models": [{"model": 3}]}, "models[0].model: expected a path", "org/name"),
    (LINEAR | {"models": [{"model": "a/x@b@c"}]}, "'a/x@b@c' is not model@revision+adapter", "{path: ...}"),
    (LINEAR | {"models": [{"model": "a/x+b+c"}]}, "'a/x+b+c' is not model@revision+adapter", "{path: ...}"),
    (
        LINEAR | {"models": [{"model": {"path": "a/x", "revison": "v"}}]},
        "models[0].model.revison: unknown key",
        "did you mean revision?",
    ),
    (
        LINEAR | {"models": [{"model": {"model": {"pth": "a/x"}}}]},
        "models[0].model.model.pth: unknown key",
        "did you mean path?",
    ),
    (LINEAR | {"models": [{"model": {"model": "a/x", "lara": "b"}}]}, "model.lara: unknown key", "lora?"),
    # values of parameters
    (LINEAR | {"parameters": {"wieght": 1}}, "parameters.wieght: unknown parameter of linear", "weight"),
    (
        LINEAR | {"parameters": {"weight": "much"}},
        "parameters.weight: weight is a number, got 'much'",
        "number",
    ),
    (LINEAR | {"parameters": {"weight": float("nan")}}, "weight must be finite", "number"),
    (LINEAR | {"parameters": {"weight": ".inf"}}, "weight is a number, got '.inf'", "number"),
    (LINEAR | {"parameters": {"weight": 10**400}}, "weight: expected a number", "number"),
    (LINEAR | {"parameters": {"normalize": 3}}, "normalize is a switch", "true or false"),
    (LINEAR | {"parameters": {"weight": []}}, "parameters.weight: an empty list", "list of numbers"),
    (LINEAR | {"parameters": {"weight": [1, None]}}, "parameters.weight[1]: expected a number", "number"),
    (LINEAR | {"parameters": {"weight": [1, "x"]}}, "parameters.weight[1]: expected a number", "number"),
    (LINEAR | {"parameters": {"weight": [1, [2]]}}, "parameters.weight[1]: expected a number", "number"),
    (
        LINEAR | {"parameters": {"weight": [1, {"value": 2}]}},
        "parameters.weight: numbers and filters in one list",
        "list of {filter, value}",
    ),
    (LINEAR | {"parameters": {"weight": [{"filter": "x"}]}}, "weight[0].value: missing", "add value:"),
    (LINEAR | {"parameters": {"weight": {"fliter": "x", "value": 1}}}, "weight.fliter: unknown", "filter?"),
    (
        LINEAR | {"parameters": {"weight": {"filter": 3, "value": 1}}},
        "weight.filter: expected a part",
        "quote",
    ),
    (
        LINEAR | {"parameters": {"weight": [{"value": [1, "y"]}]}},
        "parameters.weight[0].value[1]: expected a number",
        "number",
    ),
    (
        ARITHMETIC | {"merge_method": "ties", "parameters": {"density": [0.5, 1.5]}},
        "parameters.density[1]: density is 1.5, outside [0, 1]",
        "inside that range",
    ),
    (
        ARITHMETIC | {"models": [{"model": "a/x", "parameters": {"lambda": 1}}]},
        "models[0].parameters.lambda: lambda of task_arithmetic is one value",
        "move lambda",
    ),
    # roles
    (LINEAR | {"models": [{"model": "a/x"}] * 2}, "models: a/x is listed twice", "once"),
    (LINEAR | {"base_model": "a/z"}, "linear averages the models that are listed", "list the base"),
    (LINEAR | {"merge_method": "ties"}, "models: ties needs a base", "add base_model:"),
    (ARITHMETIC | {"models": [{"model": "a/b"}]}, "takes at least 1 model besides the base, got 0", "change"),
    (SLERP | {"models": LINEAR["models"]}, "slerp takes 2 models with the base, got 3", "list of models"),
    (SLERP | {"parameters": {}}, "models: slerp needs t", "parameters: {t: ...}"),
    (
        {"merge_method": "passthrough", "base_model": "a/b", "models": [{"model": "a/x"}]},
        "passthrough has no use for a base",
        "remove base_model:",
    ),
    # the rest
    (LINEAR | {"dtype": "int8"}, "dtype: unknown dtype 'int8'", "use one of: bfloat16, float16, float32"),
    (LINEAR | {"out_dtype": "torch.float64"}, "out_dtype: unknown dtype 'float64'", "did you mean float16?"),
    (LINEAR | {"dtype": 16}, "dtype: unknown dtype 16", "float16"),
    (LINEAR | {"seed": "soon"}, "seed: expected a whole number, got 'soon'", "write a whole number"),
    (LINEAR | {"seed": True}, "seed: expected a whole number, got True", "write a whole number"),
    (LINEAR | {"compat": "mergekit-0.2"}, "compat: unknown version", "did you mean mergekit-0.1?"),
    (LINEAR | {"unmatched": {"filter": "x"}}, "unmatched[0].action: missing", "add action:"),
    (LINEAR | {"unmatched": [{"action": "cpoy"}]}, "unmatched[0].action: unknown action 'cpoy'", "copy?"),
    (LINEAR | {"unmatched": "copy"}, "unmatched: expected a list", "- before each"),
    (
        LINEAR | {"unmatched": {"filter": 3, "action": "copy"}},
        "unmatched[0].filter: expected a text",
        "quotes",
    ),
]


@pytest.mark.parametrize(("data", "message", "fix"), MISTAKES, ids=[message for _, message, _ in MISTAKES])
def test_a_mistake_is_said_once_with_its_place_and_its_fix(data, message, fix):
    with pytest.raises(RecipeError) as caught:
        Recipe.from_dict(data)
    assert not isinstance(caught.value, RecipeErrors), str(caught.value)
    assert message in caught.value.message
    assert fix in caught.value.fix


TEN = """
merge_method: ties
base_model: {path: org/base, revison: v1}
models:
  - modle: org/one
    parameters: {densty: 0.5, weight: much}
  - model: org/a+b+c
    parameters:
      density: [0.1, {filter: mlp, value: 2}]
      weight: [0.1, x, 0.3]
out_dtpye: int8
chat_template: chatlm
"""


def test_ten_mistakes_give_ten_messages():
    reading = read_yaml(TEN)
    assert reading.recipe is None
    assert [mistake.message.partition(": ")[0] for mistake in reading.mistakes] == [
        "out_dtpye",
        "base_model.revison",
        "models[0].modle",
        "models[0].parameters.densty",
        "models[0].parameters.weight",
        "models[1].parameters.density",
        "models[1].parameters.weight[1]",
        "models[1].model",
        "out_dtype",
        "chat_template",
    ]
    with pytest.raises(RecipeErrors) as caught:
        reading.sound()
    assert caught.value.mistakes == reading.mistakes
    assert caught.value.message == reading.mistakes[0].message
    assert str(caught.value).count("fix: ") == 10


def test_no_mistake_follows_from_another():
    # t is there, the base is there, and so are two models, however badly written
    data = {
        "merge_method": "slerp",
        "base_mdoel": "a/b",
        "models": [{"model": "a/b"}, {"model": 7}],
        "parameters": {"tt": 0.5},
    }
    with pytest.raises(RecipeErrors) as caught:
        Recipe.from_dict(data)
    assert [mistake.message.partition(": ")[0] for mistake in caught.value.mistakes] == [
        "base_mdoel",
        "parameters.tt",
        "models[1].model",
    ]


def test_an_unknown_method_does_not_hide_the_rest():
    with pytest.raises(RecipeErrors) as caught:
        Recipe.from_dict(LINEAR | {"merge_method": "lerp", "parameters": {"weight": [1, "x"]}, "seed": []})
    assert [mistake.message.partition(": ")[0] for mistake in caught.value.mistakes] == [
        "merge_method",
        "parameters.weight[1]",
        "seed",
    ]


def test_what_every_slice_lacks_is_said_once():
    data = {"merge_method": "slerp", "slices": [{"sources": [source(), source("a/y")]}] * 3}
    with pytest.raises(RecipeErrors) as caught:
        Recipe.from_dict(data)
    assert [mistake.message for mistake in caught.value.mistakes] == [
        "slices[0]: slerp needs a base",
        "slices[0]: slerp needs t",
    ]


@pytest.mark.parametrize("level", ["slice", "module", "recipe", None])
def test_a_value_that_is_needed_may_stand_at_every_level(level):
    part: dict[str, object] = {"sources": [source(), source("a/y")]}
    module: dict[str, object] = {"slices": [part]}
    data: dict[str, object] = {"merge_method": "slerp", "base_model": "a/y", "modules": {"text": module}}
    if level is None:
        with pytest.raises(RecipeError, match=r"modules\.text\.slices\[0\]: slerp needs t"):
            Recipe.from_dict(data)
        return
    {"slice": part, "module": module, "recipe": data}[level]["parameters"] = {"t": 0.5}
    assert Recipe.from_dict(data).modules[0].name == "text"


def test_the_same_model_may_give_two_ranges_of_one_slice():
    recipe = Recipe.from_dict(layers(source(), source(layer_range=[1, 3])))
    assert len(recipe.slices[0].sources) == 2


def test_places_stand_below_what_is_around():
    with pytest.raises(RecipeError, match=r"^recipe\.models\[0\]\.modle: unknown key"):
        Recipe.from_dict(LINEAR | {"models": [{"modle": "a/x"}]}, where="recipe")
    with pytest.raises(RecipeError, match=r"^recipe: needs models:"):
        Recipe.from_dict({"merge_method": "linear"}, where="recipe")
