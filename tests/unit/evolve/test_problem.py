"""What algorithms are told of a space: levels, depths, known points."""

from __future__ import annotations

import copy
import itertools
import json

import pytest

from mergery.evolve import SearchSpace
from mergery.evolve.knobs import Knob


def recipe(weight: object = None, **parameters: object) -> dict[str, object]:
    first = {"weight": {"search": [-0.5, 3.0]} if weight is None else weight}
    return {
        "merge_method": "ties",
        "base_model": "zoo/base",
        "models": [{"model": "zoo/a", "parameters": first}, {"model": "zoo/b"}],
        "parameters": parameters,
    }


def choice(*methods: str, **parameters: object) -> dict[str, object]:
    return recipe(**parameters) | {"merge_method": {"search": list(methods)}}


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
        "uniform, ties": ("ties", 0.5, 0.5),
        "sum, ties": ("ties", 1.0, 1.0),
        "uniform, task_arithmetic": ("task_arithmetic", 0.5, 0.5),
        "zoo/a alone, ties": ("ties", 1.0, 0.0),
        "zoo/b alone, ties": ("ties", 0.0, 1.0),
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
