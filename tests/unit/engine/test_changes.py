"""Inner products of gradients with what moved parameters change, against merging twice and subtracting."""

from __future__ import annotations

import gc
from dataclasses import replace

import pytest
import torch

from mergery.engine import LiveMerge
from mergery.engine import changes as module
from mergery.engine.plan import Plan
from mergery.recipe import Recipe

WEIGHTS = ((0.3, 0.8), (0.5, 0.8), (0.3, -0.2))


def recipe(paths, method, weights, **parameters):
    base, *experts = map(str, paths)
    entries = [
        {"model": expert, "parameters": {"weight": [{"filter": "mlp", "value": weight}, {"value": 0.4}]}}
        for expert, weight in zip(experts, weights, strict=True)
    ]
    with_base = {} if method == "linear" else {"base_model": base}
    data = {"merge_method": method, **with_base, "models": entries, "parameters": parameters}
    return replace(Recipe.from_dict(data), out_dtype="float32")


def merged(recipe):
    model = LiveMerge(recipe).build(recipe)
    return {name: value.double().clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize(
    ("method", "parameters", "summed"),
    [
        ("task_arithmetic", {"lambda": 0.7}, True),
        ("task_arithmetic", {"normalize": True}, True),
        ("linear", {}, True),
        ("ties", {"density": 0.6}, False),
        ("dare_linear", {"density": 0.5}, False),
        ("della", {"density": 0.5, "epsilon": 0.2}, False),
        ("sce", {}, False),
    ],
)
def test_products_are_those_of_two_merges(make_model, monkeypatch, method, parameters, summed):
    paths = [make_model(name, seed=seed, dtype=torch.bfloat16) for seed, name in enumerate("abc")]
    if method == "sce":
        recipes = [
            replace(
                Recipe.from_dict(
                    {
                        "merge_method": "sce",
                        "base_model": str(paths[0]),
                        "models": [{"model": str(path)} for path in paths[1:]],
                        "parameters": {"select_topk": share},
                    }
                ),
                out_dtype="float32",
            )
            for share in (1.0, 0.5, 0.8)
        ]
    else:
        recipes = [recipe(paths, method, weights, **parameters) for weights in WEIGHTS]
    live = LiveMerge(recipes[0])
    live.build(recipes[0])
    generator = torch.Generator().manual_seed(3)
    for parameter in live.model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    if summed:  # no second merge is made
        monkeypatch.setattr(module._Tensor, "_values", property(lambda tensor: pytest.fail("merged twice")))

    found = dict(live.inner_changes(recipes[1:]))

    here, *there = map(merged, recipes)
    gradients = {name: parameter.grad.double() for name, parameter in live.model.named_parameters()}
    assert sorted(found) == sorted(here.keys() & gradients.keys())
    for name, products in found.items():
        for other, product in zip(there, products, strict=True):
            expected = float((gradients[name] * (other[name] - here[name])).sum())
            scale = float(gradients[name].norm() * (other[name] - here[name]).norm())
            assert product == pytest.approx(expected, abs=1e-4 * scale + 1e-9)
        if "mlp" not in name and method in ("task_arithmetic", "linear") and not parameters.get("normalize"):
            assert products == [0.0, 0.0]


def test_candidates_leave_nothing_behind(make_model):
    """A search builds thousands of them."""
    paths = [make_model(name, seed=seed) for seed, name in enumerate("abc")]
    live = LiveMerge(recipe(paths, "task_arithmetic", WEIGHTS[0]))

    def plans():
        gc.collect()
        return sum(type(entry) is Plan for entry in gc.get_objects())

    counts = []
    for weight in (0.1, 0.2, 0.3, 0.4):
        live.build(recipe(paths, "task_arithmetic", (weight, 0.5)))
        for parameter in live.model.parameters():
            parameter.grad = torch.ones_like(parameter)
        list(live.inner_changes([recipe(paths, "task_arithmetic", (weight, 0.6))]))
        counts.append(plans())
    assert counts[1:] == counts[:-1]


def test_a_nested_recipe_is_merged_anew(make_model):
    """The moved knob is inside an operand, so no model's product says what it does."""
    paths = [str(make_model(name, seed=seed)) for seed, name in enumerate("abc")]

    def nested(weight):
        inner = {
            "merge_method": "linear",
            "models": [
                {"model": paths[1], "parameters": {"weight": weight}},
                {"model": paths[2], "parameters": {"weight": 1.0}},
            ],
        }
        outer = {
            "merge_method": "task_arithmetic",
            "base_model": paths[0],
            "models": [{"model": inner, "parameters": {"weight": 0.5}}],
        }
        return replace(Recipe.from_dict(outer), out_dtype="float32")

    recipes = [nested(1.0), nested(3.0)]
    live = LiveMerge(recipes[0])
    live.build(recipes[0])
    for parameter in live.model.parameters():
        parameter.grad = torch.ones_like(parameter)
    here, there = map(merged, recipes)
    for name, (product,) in live.inner_changes(recipes[1:]):
        assert product == pytest.approx(float((there[name] - here[name]).sum()), rel=1e-3, abs=1e-4)
