"""Methods that need more of a recipe than weights, from the file to the written model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from mergery.engine import merge
from mergery.recipe import Recipe

State = dict[str, torch.Tensor]


@pytest.fixture
def family(make_model) -> dict[str, Path]:
    """A base and models trained from it."""
    return {
        "base": make_model("base", 0),
        **{name: make_model(name, i, near=0) for i, name in enumerate("abc", 1)},
    }


def wide(path: Path) -> State:
    return {name: tensor.double() for name, tensor in load_file(path / "model.safetensors").items()}


def merged(out: Path, **data: object) -> State:
    merge(Recipe.from_dict(data), out)
    return wide(out)


def same(got: State, expected: State) -> None:
    assert got.keys() == expected.keys()
    for name, tensor in expected.items():
        torch.testing.assert_close(got[name], tensor, rtol=1e-5, atol=1e-6)


def layer_of(name: str) -> int | None:
    return int(name.split(".")[2]) if name.startswith("model.layers.") else None


def test_lines_scales_the_layers_of_a_real_model(family, tmp_path):
    got = merged(
        tmp_path / "out",
        merge_method="lines",
        base_model=str(family["base"]),
        models=[{"model": str(family[name])} for name in "ab"],
        parameters={"beta": 0.3},
    )
    base, a, b = (wide(family[name]) for name in ("base", "a", "b"))
    scale = {None: 0.5, 0: 0.5, 1: 0.65, 2: 0.8}  # alpha = 1 / 2, three layers
    same(got, {name: x + scale[layer_of(name)] * (a[name] + b[name] - 2 * x) for name, x in base.items()})


def test_one_task_is_chosen_by_its_model(family, tmp_path):
    got = merged(
        tmp_path / "out",
        merge_method="emr",
        base_model=str(family["base"]),
        models=[
            {"model": str(family["a"])},
            {"model": str(family["b"]), "parameters": {"task": True}},
        ],
    )
    base, a, b = (wide(family[name]) for name in ("base", "a", "b"))
    masked, before, after = {}, 0.0, 0.0
    for name, x in base.items():
        one, two = a[name] - x, b[name] - x
        sign = torch.where(one + two > 0, 1.0, -1.0).double()
        largest = torch.maximum((one * sign).clamp(min=0), (two * sign).clamp(min=0))
        masked[name] = sign * largest * (two * sign > 0)
        before, after = before + two.abs().sum(), after + masked[name].abs().sum()
    same(got, {name: x + before / after * masked[name] for name, x in base.items()})


def test_the_second_round_of_diloco_nests_the_first(family, make_model, tmp_path):
    first = {
        "merge_method": "diloco",
        "base_model": str(family["base"]),
        "models": [{"model": str(family[name])} for name in "ab"],
    }
    theta = merged(tmp_path / "theta", **first)
    second = merged(
        tmp_path / "second",
        merge_method="diloco",
        base_model=str(tmp_path / "theta"),
        models=[
            {"model": str(family["c"])},
            {"model": {**first, "parameters": {"momentum": 0}}, "parameters": {"previous": True}},
        ],
    )
    base, a, b, c = (wide(family[name]) for name in ("base", "a", "b", "c"))
    expected = {}
    for name, start in base.items():
        velocity = start - (a[name] + b[name]) / 2
        torch.testing.assert_close(theta[name], start - 0.7 * 1.9 * velocity, rtol=1e-5, atol=1e-6)
        gradient = theta[name] - c[name]
        velocity = 0.9 * velocity + gradient
        expected[name] = theta[name] - 0.7 * (gradient + 0.9 * velocity)
    same(second, expected)
