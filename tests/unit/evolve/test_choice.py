"""Searches that choose the merge method, too."""

from __future__ import annotations

import copy

import pytest

from mergery.errors import RecipeError
from mergery.evolve import SearchSpace


def recipe(weight: object = None, **parameters: object) -> dict[str, object]:
    first = {"weight": {"search": [-0.5, 3.0]} if weight is None else weight}
    return {
        "merge_method": "ties",
        "base_model": "zoo/base",
        "models": [{"model": "zoo/a", "parameters": first}, {"model": "zoo/b"}],
        "parameters": parameters,
    }


WEIGHT = r"recipe\.models\[0\]\.parameters\.weight"


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
