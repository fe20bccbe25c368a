"""Knobs, ranges and recipes."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mergery.errors import RecipeError
from mergery.evolve import SearchSpace
from mergery.evolve.knobs import Range
from mergery.recipe import Recipe


def recipe(weight: object = None, **parameters: object) -> dict[str, object]:
    first = {"weight": {"search": [-0.5, 3.0]} if weight is None else weight}
    return {
        "merge_method": "ties",
        "base_model": "zoo/base",
        "models": [{"model": "zoo/a", "parameters": first}, {"model": "zoo/b"}],
        "parameters": parameters,
    }


def test_knobs_are_found_in_the_recipes_order():
    space = SearchSpace.open(
        recipe(**{"density": {"search": True}, "normalize": False, "lambda": {"start": 0.5}})
    )
    assert space.names == ("models[0].weight", "density", "lambda")
    # the last two take the ranges that the method declares
    assert space.domains == ((-0.5, 3.0), (0.0, 1.0), (-0.5, 1.5))
    # ties' own defaults are 1 and 1
    assert space.start == (1.5 / 3.5, 1.0, 0.5)
    assert space.decode(space.start) == (1.0, 1.0, 0.5)


def test_a_genome_is_an_ordinary_recipe():
    data = recipe(density={"search": [0.1, 0.9]})
    before = copy.deepcopy(data)
    space = SearchSpace.open(data)
    found = space.recipe((2.5, 0.4))
    assert found.to_dict()["models"] == [
        {"model": "zoo/a", "parameters": {"weight": 2.5}},
        {"model": "zoo/b"},
    ]
    assert found.to_dict()["parameters"] == {"density": 0.4}
    assert Recipe.from_yaml(found.to_yaml()) == found
    assert data == before


def test_a_start_outside_the_default_is_the_middle():
    assert SearchSpace.open(recipe({"search": [2.0, 3.0]})).start == (0.5,)


def test_groups_become_mergekits_filters(search):
    space = SearchSpace.open(search["recipe"])
    assert space.names == (
        "models[0].weight.embedding",
        *(f"models[0].weight.layers.{layer}.{role}" for layer in range(3) for role in ("attention", "mlp")),
        "models[0].weight.norm",
        "models[1].weight",
    )
    genome = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 0.5)
    first, second = space.recipe(genome).to_dict()["models"]
    assert second["parameters"] == {"weight": 0.5}
    assert first["parameters"]["weight"][:3] == [
        {"filter": "model.embed_tokens.", "value": 0.0},
        {"filter": "model.layers.0.self_attn.", "value": 1.0},
        {"filter": "model.layers.0.mlp.", "value": 2.0},
    ]
    assert first["parameters"]["weight"][-1] == {"filter": "norm", "value": 7.0}


def test_knobs_in_slices_go_by_model(search):
    data = search["recipe"]
    models = data.pop("models")
    for model in models:
        model["layer_range"] = [0, 3]
    data["slices"] = [{"sources": models}]
    with pytest.raises(
        RecipeError, match=r"recipe.slices\[0\].sources\[0\].parameters.weight.by: a recipe of slices"
    ):
        SearchSpace.open(data)
    models[0]["parameters"]["weight"]["by"] = "model"
    space = SearchSpace.open(data)
    assert space.names == ("slices[0].sources[0].weight", "slices[0].sources[1].weight")
    assert space.recipe((0.1, 0.2)).slices[0].sources[1].parameters == {"weight": 0.2}


WEIGHT = r"recipe\.models\[0\]\.parameters\.weight"


@pytest.mark.parametrize(
    ("knob", "says", "fix"),
    [
        ({"serch": [0, 1]}, WEIGHT + r"\.serch: unknown key", "did you mean search"),
        ({"search": [0, 1], "star": 0.1}, WEIGHT + r"\.star: unknown key", "did you mean start"),
        ({"search": [3, -0.5]}, WEIGHT + r"\.search: \[3, -0.5\] is reversed", r"write \[-0.5, 3\]"),
        ({"search": [1, 1]}, WEIGHT + r"\.search: \[1, 1\] is empty", "write 1 in its place"),
        ({"search": [1]}, WEIGHT + r"\.search: expected \[lowest, highest\] or true, got \[1\]", "write"),
        ({"search": False}, WEIGHT + r"\.search: expected", "write"),
        ({"search": ["a", 1]}, WEIGHT + r"\.search: expected", "write"),
        ({"search": [0, float("inf")]}, WEIGHT + r"\.search: \[0, inf\] is not finite", "two numbers"),
        ({"search": [0, 1], "start": 2}, WEIGHT + r"\.start: 2 is outside \[0, 1\]", "inside"),
        ({"search": [0, 1], "start": "x"}, WEIGHT + r"\.start: .*got 'x'", "correct"),
        ({"search": [0, 1], "by": "blok"}, WEIGHT + r"\.by: unknown grouping 'blok'", "block"),
        ({"search": [0, 1], "by": ["block"]}, WEIGHT + r"\.by: unknown grouping", "block"),
    ],
)
def test_a_wrong_knob_is_named(knob, says, fix):
    with pytest.raises(RecipeError, match=f"^{says}(.|\n)*fix: .*{fix}"):
        SearchSpace.open(recipe(knob))


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"density": {"search": [0.2, 1.5]}}, r"recipe\.parameters\.density\.search: .* outside \[0, 1\]"),
        (
            {"densty": {"search": [0, 1]}},
            r"recipe\.parameters\.densty: unknown parameter of ties",
        ),
        ({"normalize": {"search": [0, 1]}}, r"recipe\.parameters\.normalize: .* is a bool"),
        ({"int8_mask": {"search": [0, 1]}}, r"recipe\.parameters\.int8_mask: it changes nothing in ties"),
        ({"density": 3.0}, r"recipe\.parameters\.density: density is 3"),
    ],
)
def test_knobs_are_checked_against_the_method(parameters, says):
    with pytest.raises(RecipeError, match=f"^{says}"):
        SearchSpace.open(recipe(**parameters))


def test_a_recipe_without_knobs_is_no_search():
    with pytest.raises(RecipeError, match="recipe: no open parameter"):
        SearchSpace.open(recipe(0.5))
    # mergekit's own mapping is a value
    with pytest.raises(RecipeError, match="recipe: no open parameter"):
        SearchSpace.open(recipe({"filter": "mlp", "value": 0.5}))


def test_a_wrong_method_is_met_with_the_near_one():
    data = recipe() | {"merge_method": "tiess"}
    with pytest.raises(RecipeError, match=r"recipe.merge_method: unknown .*'tiess'\nfix: did you mean ties"):
        SearchSpace.open(data)
    del data["merge_method"]
    with pytest.raises(RecipeError, match=r"recipe.merge_method: missing"):
        SearchSpace.open(data)


@given(
    st.floats(-1e6, 1e6),
    st.floats(1e-9, 1e6),
    st.lists(st.floats(0, 1), min_size=1, max_size=4),
)
def test_values_stay_in_the_range_and_near_what_was_asked(low, width, shares):
    high = low + width
    if not low < high:
        return
    span = Range(low, high, low)
    for share in shares:
        value = span.value(share)
        assert low <= value <= high
        assert 0.0 <= span.share(value) <= 1.0
        assert abs(value - (low + share * (high - low))) <= 1e-6 * (high - low) + 1e-15 * abs(low)


def test_values_can_be_read():
    assert Range(-0.5, 3.0, 0.0).value(1 / 3) == 0.666667
    assert Range(0.0, 1e-3, 0.0).value(1 / 3) == 0.000333333
    assert Range(0.0, 3e7, 0.0).value(1 / 3) == 1e7


def test_a_genome_has_all_dimensions():
    with pytest.raises(ValueError, match="1 values for 2 dimensions"):
        SearchSpace.open(recipe(density={})).recipe((1.0,))


def test_knobs_that_are_written_once_for_two_models_are_two():
    """As a YAML anchor is read, or a variable that Python code uses twice."""
    shared = {"weight": {"search": [0, 1]}}
    models = [{"model": f"zoo/{name}", "parameters": shared} for name in "ab"]
    space = SearchSpace.open({"merge_method": "linear", "models": models})
    recipe = space.recipe((0.25, 0.75)).to_dict()
    assert [model["parameters"]["weight"] for model in recipe["models"]] == [0.25, 0.75]
