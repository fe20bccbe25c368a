"""Recipes as data: what they hold, what they name, how they are written back."""

from __future__ import annotations

import pytest

from mergery.checkpoint import ModelRef
from mergery.errors import RecipeError
from mergery.recipe import InputModel, OutputSlice, Recipe, Unmatched

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
parameters: {normalize: true, lambda: 1.1}
dtype: torch.bfloat16
"""

NESTED = {
    "merge_method": "task_arithmetic",
    "base_model": "a/base",
    "models": [
        {"model": {"merge_method": "linear", "models": [{"model": "a/x"}, {"model": "a/y"}]}},
        {"model": "a/z"},
    ],
}


def refs(recipe: Recipe) -> list[str]:
    return [str(model) for model in recipe.models]


def test_reads_mergekit_yaml_and_writes_it_back():
    recipe = Recipe.from_yaml(TIES)
    assert recipe.merge_method == "ties"
    assert refs(recipe) == ["org/one", "./two", "org/base@v1"]
    assert recipe.base_model == ModelRef("org/base", "v1")
    assert recipe.dtype == "bfloat16"
    assert recipe.parameters == {"normalize": True, "lambda": 1.1}
    assert recipe.slices[0].sources[0].parameters == {"weight": 0.5, "density": (0.1, 0.5)}
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe


def test_slices_have_ranges_values_and_bases_of_their_own():
    recipe = Recipe.from_dict(
        {
            "merge_method": "task_arithmetic",
            "base_model": "a/base",
            "slices": [
                {"sources": [{"model": "a/b", "layer_range": [0, 4]}]},
                {
                    "sources": [{"model": "a/c", "layer_range": ["2", 4], "parameters": {"weight": 0.5}}],
                    "parameters": {"lambda": [1, 0]},
                    "base_model": "a/other",
                },
            ],
        }
    )
    first, second = recipe.slices
    assert first == OutputSlice((InputModel(ModelRef("a/b"), {}, (0, 4)),))
    assert second.sources[0] == InputModel(ModelRef("a/c"), {"weight": 0.5}, (2, 4))
    assert second.parameters == {"lambda": (1.0, 0.0)}
    assert (recipe.base_of(first), recipe.base_of(second)) == (ModelRef("a/base"), ModelRef("a/other"))
    assert refs(recipe) == ["a/b", "a/c", "a/other", "a/base"]
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe


def test_modules_have_models_or_slices():
    recipe = Recipe.from_dict(
        {
            "merge_method": "linear",
            "modules": {
                "text_decoder": {
                    "slices": [{"sources": [{"model": "a/x", "layer_range": [0, 2]}]}],
                    "parameters": {"weight": 2},
                },
                "vision_tower": {"models": [{"model": "a/y"}, {"model": "a/x"}]},
            },
        }
    )
    assert recipe.slices == ()
    text, vision = recipe.modules
    assert (text.name, text.parameters, vision.name) == ("text_decoder", {"weight": 2.0}, "vision_tower")
    assert vision.slices == (OutputSlice((InputModel(ModelRef("a/y")), InputModel(ModelRef("a/x")))),)
    assert recipe.parts == text.slices + vision.slices
    assert refs(recipe) == ["a/x", "a/y"]
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe


def test_an_input_may_be_a_recipe():
    recipe = Recipe.from_dict(NESTED)
    inner = recipe.slices[0].sources[0].model
    assert isinstance(inner, Recipe)
    assert refs(inner) == ["a/x", "a/y"]
    assert recipe.inputs == (inner, ModelRef("a/z"), ModelRef("a/base"))
    assert refs(recipe) == ["a/x", "a/y", "a/z", "a/base"]
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe
    # as Python writes it, the recipe itself stands there
    assert Recipe.from_dict(NESTED | {"models": [{"model": inner}, {"model": "a/z"}]}) == recipe


def test_a_base_may_be_a_recipe_and_is_recognised_when_it_is_listed():
    inner = {"merge_method": "linear", "models": [{"model": "a/x"}, {"model": "a/y"}]}
    data = {"merge_method": "slerp", "base_model": inner, "parameters": {"t": 0.5}}
    listed = Recipe.from_dict(data | {"models": [{"model": inner}, {"model": "a/x"}]})
    assert len(listed.inputs) == 2
    assert refs(listed) == ["a/x", "a/y"]
    unlisted = Recipe.from_dict(data | {"models": [{"model": "a/x"}]})
    assert refs(unlisted) == ["a/x", "a/y"]
    broken = {"merge_method": "linear", "models": [{"model": "a/x"}, {"model": 3}]}
    with pytest.raises(RecipeError, match=r"models\[0\]\.model\.models\[1\]\.model: expected a path"):
        Recipe.from_dict(data | {"models": [{"model": broken}]})


def test_mistakes_inside_a_recipe_inside_are_said_with_the_whole_path():
    data = {"merge_method": "linear", "models": [{"model": {"merge_methd": "linear", "models": []}}]}
    with pytest.raises(RecipeError) as caught:
        Recipe.from_dict(data)
    assert [mistake.message for mistake in caught.value.mistakes] == [
        "models[0].model.merge_methd: unknown key",
        "models[0].model.models: an empty list",
    ]


LINEAR = {"merge_method": "linear", "models": [{"model": "a/x"}, {"model": "a/y"}]}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"dtype": "torch.float16"}, {"dtype": "float16"}),
        ({"tokenizer_source": "union"}, {"tokenizer": {}}),
        ({"tokenizer_source": "model:a/x"}, {"tokenizer": {"source": "a/x"}}),
        ({"tokenizer_source": None, "seed": 0, "parameters": None}, {}),
        ({"parameters": {"weight": "1e-1"}}, {"parameters": {"weight": 0.1}}),
        ({"parameters": {"weight": True}}, {"parameters": {"weight": 1}}),
        ({"parameters": {"weight": -0.0}}, {"parameters": {"weight": 0}}),
        ({"parameters": {"normalize": 1}}, {"parameters": {"normalize": True}}),
        (
            {"parameters": {"weight": {"filter": None, "value": 2}}},
            {"parameters": {"weight": [{"filter": "*", "value": 2}]}},
        ),
        ({"parameters": {"weight": 1, "normalize": False}}, {"parameters": {"normalize": 0, "weight": 1}}),
        ({"models": [{"model": {"path": "a/x"}}, {"model": {"model": "a/y"}}]}, {}),
        ({"parameters": {"int8_mask": True}}, {}),
        ({"unmatched": {"action": "copy"}}, {"unmatched": [{"filter": "*", "action": "copy"}]}),
    ],
)
def test_the_digest_is_of_what_is_said_not_of_how(one, other):
    first, second = Recipe.from_dict(LINEAR | one), Recipe.from_dict(LINEAR | other)
    assert first.digest == second.digest
    assert first == second
    assert hash(first) == hash(second)


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"parameters": {"weight": 2}},
        {"compat": "mergekit-0.1"},
        {"chat_template": "auto"},
        {"tokenizer_source": "base"},
        {"unmatched": {"action": "drop"}},
        {"models": [{"model": "a/y"}, {"model": "a/x"}]},
    ],
)
def test_the_digest_tells_recipes_apart(change):
    assert Recipe.from_dict(LINEAR).digest != Recipe.from_dict(LINEAR | change).digest
    assert Recipe.from_dict(LINEAR) != Recipe.from_dict(LINEAR | change)
    assert Recipe.from_dict(LINEAR) != LINEAR


def test_the_order_in_which_tokens_are_added_counts():
    tokens = {"<a>": {"force": True}, "<b>": {}}
    one = Recipe.from_dict(LINEAR | {"tokenizer": {"tokens": tokens}})
    other = Recipe.from_dict(LINEAR | {"tokenizer": {"tokens": dict(reversed(tokens.items()))}})
    assert one.digest != other.digest
    assert Recipe.from_yaml(one.to_yaml()) == one


def test_what_has_no_effect_is_noted():
    recipe = Recipe.from_dict(
        {
            "merge_method": "task_arithmetic",
            "base_model": {"model": "a/b", "override_architecture": "LlamaForCausalLM"},
            "slices": [
                {
                    "sources": [
                        {
                            "model": "a/x",
                            "layer_range": [0, 2],
                            "parameters": {"density": 0.5, "weight": {"filter": "*.mlp", "value": 1}},
                        }
                    ],
                    "residual_weight": 0.5,
                }
            ],
            "parameters": {"int8_mask": True},
            "embed_slerp": True,
        }
    )
    assert [note.partition(": ")[0] for note in recipe.notes] == [
        "embed_slerp",
        "parameters.int8_mask",
        "base_model.override_architecture",
        "slices[0].residual_weight",
        "slices[0].sources[0].parameters.density",
        "slices[0].sources[0].parameters.weight.filter",
    ]
    assert recipe.base_model == ModelRef("a/b")
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe
    assert Recipe.from_dict(LINEAR).notes == ()


def test_unmatched_fits_parts_of_names_and_patterns_of_whole_ones():
    name = "vision_tower.layers.0.norm.weight"
    assert Unmatched("vision_tower", "copy").fits(name)
    assert Unmatched("vision_*.weight", "copy").fits(name)
    assert Unmatched("*.layers.?.*", "copy").fits(name)
    assert Unmatched("*", "copy").fits(name)
    assert not Unmatched("layers.*", "copy").fits(name)
    assert not Unmatched("lm_head", "copy").fits(name)
