from __future__ import annotations

import copy
import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mergery.errors import RecipeError
from mergery.evolve import SearchSpace
from mergery.evolve.knobs import Knob, Range
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


def choice(*methods: str, **parameters: object) -> dict[str, object]:
    return recipe(**parameters) | {"merge_method": {"search": list(methods)}}


def test_the_method_may_be_open():
    space = SearchSpace.open(choice("task_arithmetic", "ties", "consensus_ties", density={}))
    assert space.names == ("merge_method", "models[0].weight", "density")
    assert space.domains == (("task_arithmetic", "ties", "consensus_ties"), (-0.5, 3.0), (0.0, 1.0))
    assert space.problem.choices == (3, 0, 0)
    # thirds of the edge, and each method's own defaults where it begins
    for share, genome in {
        0.0: ("task_arithmetic", 1.0, 0.5),
        0.3333: ("task_arithmetic", 1.0, 0.5),
        0.3334: ("ties", 1.0, 0.5),
        0.6667: ("consensus_ties", 1.0, 0.5),
        1.0: ("consensus_ties", 1.0, 0.5),
    }.items():
        assert space.decode((share, 1.5 / 3.5, 0.5)) == genome
    starts = [space.decode(space.start_of(method)) for method in space.methods]
    assert starts == [("task_arithmetic", 1.0, 1.0), ("ties", 1.0, 1.0), ("consensus_ties", 1.0, 0.2)]
    assert space.decode(space.start) == starts[0]


def test_each_methods_recipe_holds_its_own_parameters_only():
    data = choice("task_arithmetic", "ties", "model_stock", density={}, rescale=True)
    before = copy.deepcopy(data)
    space = SearchSpace.open(data)
    found = {method: space.recipe((method, 2.5, 0.4)).to_dict() for method in space.methods}
    weighted = [{"model": "zoo/a", "parameters": {"weight": 2.5}}, {"model": "zoo/b"}]
    assert found["ties"]["models"] == found["task_arithmetic"]["models"] == weighted
    assert found["ties"]["parameters"] == {"density": 0.4, "rescale": True}
    assert found["model_stock"]["models"] == [{"model": "zoo/a"}, {"model": "zoo/b"}]
    assert "parameters" not in found["task_arithmetic"]
    assert "parameters" not in found["model_stock"]
    assert [data["merge_method"] for data in found.values()] == list(found)
    assert [data["base_model"] for data in found.values()] == ["zoo/base"] * 3
    # what a method does not take makes no other recipe of it
    assert space.recipe(("model_stock", 2.5, 0.4)).digest == space.recipe(("model_stock", 0.1, 0.9)).digest
    assert data == before


def test_each_method_has_its_own_range():
    data = choice("slerp", "nearswap") | {
        "models": [{"model": "zoo/a"}],
        "parameters": {"t": {"search": True}},
    }
    space = SearchSpace.open(data)
    # nearswap declares a hundredth of slerp's range
    assert space.decode((0.2, 0.25)) == ("slerp", 0.25)
    assert space.decode((0.8, 0.25)) == ("nearswap", 0.0025)
    assert space.domains[1] == (0.0, 1.0)
    assert space.recipe(("nearswap", 0.0025)).parameters == {"t": 0.0025}
    data["parameters"]["t"] = {"search": [0, 0.5], "start": 0.1}
    space = SearchSpace.open(data)
    assert [space.decode((method, 0.5))[1] for method in (0.2, 0.8)] == [0.25, 0.25]


def test_methods_alone_are_a_search():
    space = SearchSpace.open(choice("ties", "model_stock") | {"models": [{"model": "a"}, {"model": "b"}]})
    assert (space.names, space.domains) == (("merge_method",), (("ties", "model_stock"),))
    assert [space.decode(point) for _, point in space.problem.known] == [("ties",), ("model_stock",)]


def test_each_method_begins_with_its_own_models():
    data = choice("task_analogy", "ties") | {"models": [{"model": name} for name in "abc"]}
    data["parameters"] = {"lambda": {}}
    starts = SearchSpace.open(data).starts
    assert [sorted(str(ref) for ref in start.models) for start in starts] == [
        ["a", "b", "c"],
        ["a", "b", "c", "zoo/base"],
    ]


def test_a_method_that_averages_leaves_a_base_out_that_is_not_listed():
    data = choice("linear", "nuslerp", "ties")
    space = SearchSpace.open(data)
    assert [start.base_model is None for start in space.starts] == [True, False, False]
    data["models"].append({"model": "zoo/base"})
    assert [str(start.base_model) for start in SearchSpace.open(data).starts] == ["zoo/base"] * 3


METHOD = r"recipe\.merge_method"


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ({"search": ["ties", "tiess"]}, METHOD + r"\.search: unknown .*'tiess'\nfix: did you mean ties"),
        ({"search": ["ties"]}, METHOD + r"\.search: name two or more methods, each once"),
        ({"search": ["ties", "ties"]}, METHOD + r"\.search: name two or more methods, each once"),
        ({"search": []}, METHOD + ": not a method's name, nor a choice of several"),
        ({"search": "ties"}, METHOD + ": not a method's name, nor a choice of several"),
        ({"search": [1, 2]}, METHOD + ": not a method's name, nor a choice of several"),
        ({"search": True}, METHOD + ": not a method's name, nor a choice of several"),
        ({"serch": ["ties", "sce"]}, METHOD + ": not a method's name, nor a choice of several"),
        (["ties", "sce"], METHOD + ": not a method's name, nor a choice of several"),
        ({"search": ["ties", "slerp"]}, "recipe.*: slerp .*"),
        ({"search": ["task_negation", "ties"]}, WEIGHT + r"\.search: \[-0.5, 3\] reaches outside \[0, inf\]"),
    ],
)
def test_a_wrong_choice_of_methods_is_named(written, says):
    with pytest.raises(RecipeError, match=f"^{says}"):
        SearchSpace.open(recipe() | {"merge_method": written})


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"densty": 0.5}, r"recipe\.parameters\.densty: unknown parameter of task_arithmetic"),
        ({"densty": {}}, r"recipe\.parameters\.densty: unknown parameter of task_arithmetic"),
        ({"density": 7}, r"recipe\.parameters\.density: density is 7"),
    ],
)
def test_what_no_method_takes_is_told(parameters, says):
    with pytest.raises(RecipeError, match=f"^{says}"):
        SearchSpace.open(choice("task_arithmetic", "ties", **parameters))
    data = choice("task_arithmetic", "ties")
    data["models"][1]["parameters"] = {"wieght": 1.0}
    with pytest.raises(RecipeError, match=r"^recipe\.models\[1\]\.parameters\.wieght: unknown parameter"):
        SearchSpace.open(data)


def grouped(search, by, other="model"):
    """The space of the tiny family with knobs by these groups."""
    for model, grouping in zip(search["recipe"]["models"], (by, other), strict=True):
        model["parameters"]["weight"]["by"] = grouping
    return SearchSpace.open(search["recipe"])


def partition(level):
    """Which dimensions are kept equal."""
    return [[at for at, group in enumerate(level) if group == wanted] for wanted in sorted(set(level))]


def test_levels_go_from_one_number_a_knob_to_all():
    """9 layers, by hand: everything; thirds of the layers; each layer."""
    names = ["embedding", *(f"layers.{layer}" for layer in range(9)), "norm", "head"]
    filters = tuple((name, index) for index, name in enumerate(names))
    first, second = SearchSpace.open(recipe(density={})).knobs
    layered = Knob(first.path, first.ranges, "layer", tuple(names), filters)
    space = SearchSpace({}, (layered, second), ("ties",), layers=9)
    levels = [partition(level) for level in space.problem.levels]
    assert levels == [
        [list(range(12)), [12]],
        [[0], [1, 2, 3], [4, 5, 6], [7, 8, 9], [10], [11], [12]],
        [[at] for at in range(13)],
    ]


def test_levels_of_blocks_go_by_role(search):
    space = grouped(search, "block", "role")
    names = [name.removeprefix("models[0].weight.") for name in space.names]
    assert names[:8] == [
        "embedding",
        *(f"layers.{layer}.{role}" for layer in range(3) for role in ("attention", "mlp")),
        "norm",
    ]
    assert len(names) == 12  # and embedding, attention, mlp and norm of the other
    levels = [partition(level) for level in space.problem.levels]
    assert levels == [
        [list(range(8)), [8, 9, 10, 11]],
        [[0], [1, 3, 5], [2, 4, 6], [7], [8], [9], [10], [11]],
        [[at] for at in range(12)],
    ]


@pytest.mark.parametrize("by", ["role", "layer", "block"])
def test_a_finer_level_never_joins_what_a_coarser_one_parts(search, by):
    levels = grouped(search, by).problem.levels
    assert len(levels) > 1
    for coarse, fine in itertools.pairwise(levels):
        assert len(coarse) == len(fine)
        pairs = dict.fromkeys(zip(fine, coarse, strict=True))
        assert len(pairs) == len(set(fine))
        assert len(set(coarse)) < len(set(fine))
    assert sorted(levels[-1]) == list(range(len(levels[-1])))


def test_one_number_a_knob_is_one_level_only():
    assert SearchSpace.open(recipe(density={})).problem.levels == ()


def test_depths_go_from_the_bottom_to_the_top(search):
    problem = grouped(search, "layer", "block").problem
    # layers 0, 1 and 2 of 3 lie at 1/6, 3/6 and 5/6
    layers = [1 / 6, 3 / 6, 5 / 6]
    blocks = [depth for depth in layers for _ in range(2)]
    assert problem.depths == pytest.approx((0.0, *layers, 1.0, 0.0, *blocks, 1.0))


def test_depths_without_a_place_are_the_middle():
    assert SearchSpace.open(choice("ties", "dare_ties", density={})).problem.depths == (0.5, 0.5, 0.5)


def weights(found):
    return [source.parameters["weight"] for source in found.slices[0].sources]


def open_weights(count, **more):
    knob = {"search": [-0.5, 3.0], "start": 0.9}
    models = [{"model": f"zoo/{name}", "parameters": {"weight": dict(knob)}} for name in "abc"[:count]]
    return recipe() | {"models": models} | more


def test_known_points_are_what_their_names_say():
    space = SearchSpace.open(open_weights(3, parameters={"density": {"search": [0.1, 1.0], "start": 0.3}}))
    known = {name: space.recipe(space.decode(point)) for name, point in space.problem.known}
    assert {name: weights(found) for name, found in known.items()} == {
        "uniform": pytest.approx([1 / 3] * 3, abs=1e-5),
        "half": [0.5] * 3,
        "sum": [1.0] * 3,
        "sum of two": pytest.approx([2 / 3] * 3, abs=1e-5),
        "zoo/a alone": [1.0, 0.0, 0.0],
        "zoo/b alone": [0.0, 1.0, 0.0],
        "zoo/c alone": [0.0, 0.0, 1.0],
    }
    assert all(found.parameters == {"density": 0.3} for found in known.values())


def test_two_models_have_no_point_twice():
    problem = SearchSpace.open(open_weights(2)).problem
    assert [name for name, _ in problem.known] == ["uniform", "sum", "zoo/a alone", "zoo/b alone"]


def test_a_nested_recipe_is_called_by_its_place():
    data = open_weights(2)
    data["models"][1]["model"] = {
        "merge_method": "linear",
        "models": [{"model": "zoo/x"}, {"model": "zoo/y"}],
    }
    known = dict(SearchSpace.open(data).problem.known)
    assert list(known)[2:] == ["zoo/a alone", "models[1] alone"]


def test_a_number_for_every_group_is_the_same_for_all_of_them(search):
    space = SearchSpace.open(search["recipe"])
    known = dict(space.problem.known)
    one = search["recipe"]["models"][0]["model"]
    assert space.decode(known[f"{one} alone"]) == (*[1.0] * 8, 0.0)


def test_points_that_the_ranges_have_no_room_for_are_not_known():
    data = open_weights(2)
    data["models"][0]["parameters"]["weight"] = {"search": [0.2, 0.8]}
    assert [name for name, _ in SearchSpace.open(data).problem.known] == ["uniform"]


def test_a_model_of_fixed_weight_is_part_of_every_merge():
    data = open_weights(3)
    data["models"][2]["parameters"]["weight"] = 0.5
    assert SearchSpace.open(data).problem.known == ()
    # but a base that is listed is no expert
    data["models"][2] = {"model": "zoo/base"}
    known = SearchSpace.open(data).problem.known
    assert [name for name, _ in known] == ["uniform", "sum", "zoo/a alone", "zoo/b alone"]


def test_known_points_are_of_a_method_that_takes_weights():
    methods = ["model_stock", "ties", "task_arithmetic"]
    space = SearchSpace.open(open_weights(2, merge_method={"search": methods}))
    known = {name: space.decode(point) for name, point in space.problem.known}
    for method in methods:
        assert known.pop(f"{method} as it is") == (method, 0.9, 0.9)
    assert known == {
        "uniform": ("ties", 0.5, 0.5),
        "sum": ("ties", 1.0, 1.0),
        "zoo/a alone": ("ties", 1.0, 0.0),
        "zoo/b alone": ("ties", 0.0, 1.0),
    }


def test_spaces_that_differ_have_another_identity(search):
    data = open_weights(2, parameters={"density": {}})
    others = [
        open_weights(3, parameters={"density": {}}),
        open_weights(2, parameters={"density": 0.5}),
        open_weights(2, parameters={"density": {"search": [0, 0.5]}}),
        open_weights(2, parameters={"density": {"start": 0.25}}),
        open_weights(2, parameters={"density": {}}, merge_method={"search": ["ties", "dare_ties"]}),
        open_weights(2, parameters={"density": {}}, dtype="float16"),
    ]
    texts = [json.dumps(SearchSpace.open(other).identity, sort_keys=True) for other in (data, *others)]
    assert len(dict.fromkeys(texts)) == len(texts)
    assert json.dumps(SearchSpace.open(copy.deepcopy(data)).identity, sort_keys=True) == texts[0]
    assert grouped(search, "block").identity != grouped(search, "layer").identity
