"""What every merge method promises, as checks that plug-ins can run on theirs too.

::

    @pytest.mark.parametrize("promise", PROMISES, ids=lambda promise: promise.__name__)
    def test_my_method(promise):
        promise(get_method("my_method"))
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mergery.methods.api import MergeMethod, Parameter, PerModel, Scalar, Value
from mergery.stack import Place, RandomKey, TaskVectors, Weights
from mergery.stack.native import NativeCompute, Workspace
from mergery.stack.rows import ArrayRows
from mergery.stack.whole import ModelReductions

__all__ = ["PROMISES", "Example", "example", "example_values", "merge_arrays", "merge_model"]

Float32 = NDArray[np.float32]
_SHAPES: tuple[tuple[int, ...], ...] = ((), (1,), (7,), (6, 11), (2, 3, 5))


@dataclass(frozen=True, eq=False)
class Example:
    """One tensor of K models and of their base, in memory.

    Attributes:
        models: ``(K, n)`` float32.
        base: ``(n,)`` float32, or none.
        shape: the tensor's shape.
        key: names it for random numbers.
        place: where it stands.
    """

    models: Float32
    base: Float32 | None
    shape: tuple[int, ...]
    key: RandomKey = RandomKey(7, "tensor")  # noqa: RUF009 - immutable
    place: Place = Place("tensor")  # noqa: RUF009 - immutable

    def compute(self, workspace: Workspace) -> NativeCompute:
        """Its stack, to be read."""
        base = None if self.base is None else ArrayRows(self.base)
        return NativeCompute([ArrayRows(row) for row in self.models], base, self.shape, self.key, workspace)


def merge_arrays(
    method: MergeMethod, example: Example, values: Mapping[str, Value], dtype: str = "F32"
) -> Float32:
    """Merge one tensor in memory, ``(n,)`` of what numpy has for ``dtype``."""
    return merge_model(method, [example], values, dtype)[0]


def merge_model(
    method: MergeMethod, tensors: Sequence[Example], values: Mapping[str, Value], dtype: str = "F32"
) -> list[Float32]:
    """Merge all tensors of a model in memory, for methods that look at the whole of it."""
    count = len(tensors[0].models)
    elements = sum(math.prod(tensor.shape) for tensor in tensors)
    whole = ModelReductions([tensor.compute for tensor in tensors], elements, count)
    merged = []
    for tensor in tensors:
        compute = tensor.compute(Workspace())
        kind = Weights if tensor.base is None else TaskVectors
        stack = kind(compute, count, tensor.shape, tensor.place, whole, tensor.base is not None)
        pieces = [piece.copy() for _, piece in compute.evaluate(method(stack, values), dtype)]
        merged.append(np.concatenate(pieces) if pieces else np.empty(0, np.float32))
    return merged


def example_values(method: MergeMethod, models: int) -> dict[str, Value]:
    """Values inside every parameter's range, different for each model."""
    return {
        parameter.name: PerModel(_inside(parameter, model) for model in range(models))
        if parameter.per_model
        else _inside(parameter, 0)
        for parameter in method.parameters.values()
    }


def example(
    method: MergeMethod,
    shape: tuple[int, ...] = (6, 11),
    *,
    models: int | None = None,
    seed: int = 0,
    based: bool | None = None,
) -> Example:
    """Random tensors of the kind that the method takes; ``based`` where a base is optional."""
    low, high = method.models
    count = models or int(min(3, high) if high >= 3 else max(low, high))
    generator = np.random.default_rng(seed)
    has_base = method.on_task_vectors(bool(based))
    base = generator.standard_normal(math.prod(shape), np.float32) if has_base else None
    rows = generator.standard_normal((count, math.prod(shape)), np.float32)
    return Example(rows if base is None else base + rows, base, shape)


def keeps_shape_and_type(method: MergeMethod) -> None:
    """``n`` elements in every type, for scalars and single elements too."""
    for given in _examples(method):
        values = example_values(method, len(given.models))
        for dtype, kind in (("F32", np.float32), ("BF16", np.uint16), ("F16", np.float16)):
            merged = merge_arrays(method, given, values, dtype)
            assert merged.shape == (math.prod(given.shape),)
            assert merged.dtype == kind


def stays_finite(method: MergeMethod) -> None:
    """No NaN and no infinity, for zeros and for the largest half-precision values too."""
    for scale in (0.0, 1e-30, 1.0, 60000.0):
        for given in _examples(method):
            base = None if given.base is None else np.clip(given.base * np.float32(scale), -65504, 65504)
            models = np.clip(given.models * np.float32(scale), -65504, 65504)
            values = example_values(method, len(models))
            assert np.isfinite(merge_arrays(method, replace(given, models=models, base=base), values)).all()


def leaves_inputs_untouched(method: MergeMethod) -> None:
    """A method never writes to what it is given."""
    for given in _examples(method):
        before = given.models.copy()
        merge_arrays(method, given, example_values(method, len(given.models)))
        assert np.array_equal(given.models, before)


def merges_identical_models_to_themselves(method: MergeMethod) -> None:
    """All models the same, and the same as the base: the result is that model."""
    for given in _examples(method):
        row = given.models[0] if given.base is None else given.base
        same = replace(given, models=np.tile(row, (len(given.models), 1)))
        values = _defaults(method, len(given.models))
        np.testing.assert_allclose(merge_arrays(method, same, values), row, rtol=1e-6, atol=1e-6)


def ignores_models_of_weight_zero(method: MergeMethod) -> None:
    """A last model of weight 0 changes nothing."""
    if "weight" not in method.parameters or method.models[1] < 3:
        return
    given = example(method, models=3)
    values = example_values(method, 3)
    weight = values["weight"]
    assert isinstance(weight, PerModel)
    values["weight"] = PerModel((*weight[:2], 0.0))
    fewer = {
        name: PerModel(value[:2]) if isinstance(value, PerModel) else value for name, value in values.items()
    }
    without = replace(given, models=given.models[:2])
    assert np.array_equal(merge_arrays(method, given, values), merge_arrays(method, without, fewer))


def does_not_depend_on_order(method: MergeMethod) -> None:
    """The models in another order give the same, unless the order means something."""
    if method.random or method.ordered:
        return
    given = example(method)
    values = example_values(method, len(given.models))
    order = list(reversed(range(len(given.models))))
    turned = {
        name: PerModel(value[index] for index in order) if isinstance(value, PerModel) else value
        for name, value in values.items()
    }
    other = replace(given, models=given.models[order])
    np.testing.assert_allclose(
        merge_arrays(method, given, values), merge_arrays(method, other, turned), rtol=1e-5, atol=1e-6
    )


def gives_the_same_bytes_again(method: MergeMethod) -> None:
    """Same key, same bytes; for methods that draw random numbers, another key gives others."""
    given = example(method, (40, 40))
    values = example_values(method, len(given.models))
    first, second = (merge_arrays(method, given, values) for _ in range(2))
    assert np.array_equal(first, second)
    other = merge_arrays(method, replace(given, key=RandomKey(8, "tensor")), values)
    assert np.array_equal(first, other) != method.random


def does_not_depend_on_the_cut(method: MergeMethod) -> None:
    """A tensor of several chunks gives what its elements give: no seam shows.

    The same values lie twice in the tensor, at places whose chunks are cut differently. Only for methods
    whose result at an element is not moved by where it lies (no random numbers).
    """
    if method.random:
        return
    given = example(method, (300, 500))
    doubled = replace(
        given,
        models=np.concatenate([given.models, given.models], axis=1),
        base=None if given.base is None else np.concatenate([given.base, given.base]),
        shape=(600, 500),
    )
    merged = merge_arrays(method, doubled, example_values(method, len(given.models)))
    half = merged.size // 2
    np.testing.assert_allclose(merged[:half], merged[half:], rtol=1e-6, atol=1e-7)


PROMISES: tuple[Callable[[MergeMethod], None], ...] = (
    keeps_shape_and_type,
    stays_finite,
    leaves_inputs_untouched,
    merges_identical_models_to_themselves,
    ignores_models_of_weight_zero,
    does_not_depend_on_order,
    gives_the_same_bytes_again,
    does_not_depend_on_the_cut,
)


def _examples(method: MergeMethod) -> Iterator[Example]:
    for shape in _SHAPES:
        yield example(method, shape)
        if method.on_task_vectors(True) != method.on_task_vectors(False):
            yield example(method, shape, based=True)


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


def _inside(parameter: Parameter, model: int) -> Scalar:
    if parameter.search is None:
        return True if parameter.default is None else parameter.default
    low, high = parameter.search
    return parameter.kind(low + (high - low) * (0.6 - 0.1 * model))
