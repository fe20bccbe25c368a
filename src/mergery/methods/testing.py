"""What every merge method promises, as checks that plug-ins can run on theirs too.

::

    @pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
    def test_my_method(promise):
        promise(get_method("my_method"))
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

from mergery.methods.api import MergeMethod, Parameter, PerModel, Value
from mergery.methods.random import RandomKey
from mergery.methods.stack import TaskVectors, Weights

__all__ = ["PROMISES", "example_stack", "example_values"]

_SHAPES: tuple[tuple[int, ...], ...] = ((), (1,), (7,), (6, 11), (2, 3, 5))


def example_values(method: MergeMethod, models: int) -> dict[str, Value]:
    """Values inside every parameter's range, different for each model."""
    return {
        parameter.name: PerModel(_inside(parameter, model) for model in range(models))
        if parameter.per_model
        else _inside(parameter, 0)
        for parameter in method.parameters.values()
    }


def example_stack(
    method: MergeMethod, shape: tuple[int, ...] = (6, 11), *, models: int | None = None, seed: int = 0
) -> TaskVectors | Weights:
    """Random tensors of the kind that the method takes."""
    low, high = method.models
    count = models or int(min(3, high) if high >= 3 else max(low, high))
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(count, math.prod(shape), generator=generator)
    return _stack(method, values, shape)


def keeps_shape_and_type(method: MergeMethod) -> None:
    """``n`` elements of float32, for scalars and single elements too."""
    for merged, stack in _merged(method):
        assert merged.shape == (stack.elements,)
        assert merged.dtype == torch.float32


def stays_finite(method: MergeMethod) -> None:
    """No NaN and no infinity, for zeros and for the largest half-precision values too."""
    for scale in (0.0, 1e-30, 1.0, 60000.0):
        for shape in _SHAPES:
            stack = example_stack(method, shape)
            stack = _stack(method, (stack.values * scale).clamp(-65504, 65504), shape)
            assert method(stack, example_values(method, stack.count)).isfinite().all()


def leaves_inputs_untouched(method: MergeMethod) -> None:
    """A method never writes to what it is given."""
    for shape in _SHAPES:
        stack = example_stack(method, shape)
        before = stack.values.clone()
        method(stack, example_values(method, stack.count))
        assert torch.equal(stack.values, before)


def merges_identical_models_to_themselves(method: MergeMethod) -> None:
    """All models the same as the base: the result is that model."""
    for shape in _SHAPES:
        stack = example_stack(method, shape)
        row = torch.zeros_like(stack.values[0]) if method.on_task_vectors else stack.values[0]
        same = _stack(method, row.repeat(stack.count, 1), shape)
        values = _defaults(method, stack.count)
        torch.testing.assert_close(method(same, values), row, rtol=1e-6, atol=1e-6)


def ignores_models_of_weight_zero(method: MergeMethod) -> None:
    """A last model of weight 0 changes nothing."""
    if "weight" not in method.parameters or method.models[1] < 3:
        return
    stack = example_stack(method, models=3)
    values = example_values(method, 3)
    weight = values["weight"]
    assert isinstance(weight, PerModel)
    values["weight"] = PerModel((*weight[:2], 0.0))
    fewer = {
        name: PerModel(value[:2]) if isinstance(value, PerModel) else value for name, value in values.items()
    }
    without = _stack(method, stack.values[:2], stack.shape)
    assert torch.equal(method(stack, values), method(without, fewer))


def does_not_depend_on_order(method: MergeMethod) -> None:
    """The models in another order give the same, unless the order means something."""
    if method.random or method.base == "first":
        return
    stack = example_stack(method)
    values = example_values(method, stack.count)
    order = list(reversed(range(stack.count)))
    turned = {
        name: PerModel(value[index] for index in order) if isinstance(value, PerModel) else value
        for name, value in values.items()
    }
    other = _stack(method, stack.values[order], stack.shape)
    torch.testing.assert_close(method(stack, values), method(other, turned), rtol=1e-6, atol=1e-6)


def gives_the_same_bytes_again(method: MergeMethod) -> None:
    """Same key, same bytes; for methods that draw a mask, another key gives others."""
    stack = example_stack(method, (40, 40))
    values = example_values(method, stack.count)
    first, second = (method(_stack(method, stack.values.clone(), stack.shape), values) for _ in range(2))
    assert torch.equal(first, second)
    other = type(stack)(stack.values, stack.shape, RandomKey(8, "tensor"))
    assert torch.equal(first, method(other, values)) != method.random


PROMISES: tuple[Callable[[MergeMethod], None], ...] = (
    keeps_shape_and_type,
    stays_finite,
    leaves_inputs_untouched,
    merges_identical_models_to_themselves,
    ignores_models_of_weight_zero,
    does_not_depend_on_order,
    gives_the_same_bytes_again,
)


def _merged(method: MergeMethod) -> Iterator[tuple[Tensor, TaskVectors | Weights]]:
    for shape in _SHAPES:
        stack = example_stack(method, shape)
        yield method(stack, example_values(method, stack.count)), stack


def _stack(method: MergeMethod, values: Tensor, shape: tuple[int, ...]) -> TaskVectors | Weights:
    kind = TaskVectors if method.on_task_vectors else Weights
    return kind(values, shape, RandomKey(7, "tensor"))


def _defaults(method: MergeMethod, models: int) -> Mapping[str, Value]:
    """The method's defaults, and something inside the range where there is none."""
    return {
        name: value
        if parameter.default is None
        else PerModel([parameter.default] * models)
        if parameter.per_model
        else parameter.default
        for (name, value), parameter in zip(
            example_values(method, models).items(), method.parameters.values(), strict=True
        )
    }


def _inside(parameter: Parameter, model: int) -> float | int | bool:
    if parameter.search is None:
        return True if parameter.default is None else parameter.default
    low, high = parameter.search
    return parameter.kind(low + (high - low) * (0.6 - 0.1 * model))
