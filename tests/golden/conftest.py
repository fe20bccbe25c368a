"""Merging tensors in memory by a method's name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from mergery.methods import MergeMethod, PerModel, RandomKey, get_method
from mergery.methods.testing import Example, merge_arrays, merge_model
from mergery.stack import Place

Merge = Callable[..., np.ndarray]
MergeTensors = Callable[..., list[np.ndarray]]


def filled(method: MergeMethod, models: int, compat: str | None, given: dict[str, object]) -> dict:
    """All parameters of a method; one number may stand for each model's."""
    values = {}
    for parameter in method.parameters.values():
        value = given.pop(parameter.name, method.default(parameter, compat))
        if parameter.per_model:
            value = PerModel(value if isinstance(value, Sequence) else [value] * models)
        values[parameter.name] = value
    assert not given, f"{method.name} does not have {list(given)}"
    return values


@pytest.fixture
def merge() -> Merge:
    """``merge(name, models, base=None, shape=None, compat=None, seed=5, **parameters)``, ``(n,)`` float32."""

    def run(
        name: str,
        models: np.ndarray,
        base: np.ndarray | None = None,
        shape: tuple[int, ...] | None = None,
        compat: str | None = None,
        seed: int = 5,
        **parameters: object,
    ) -> np.ndarray:
        method = get_method(name)
        values = filled(method, len(models), compat, parameters)
        given = Example(
            np.ascontiguousarray(models, np.float32),
            None if base is None else np.ascontiguousarray(base, np.float32),
            shape or (models.shape[1],),
            RandomKey(seed, "layer.weight"),
        )
        return merge_arrays(method, given, values)

    return run


@pytest.fixture
def merge_tensors() -> MergeTensors:
    """``merge_tensors(name, task_vectors, places=None, **parameters)``: all tensors, from a base of 0."""

    def run(
        name: str,
        task_vectors: Sequence[np.ndarray],
        places: Sequence[Place] | None = None,
        **parameters: object,
    ) -> list[np.ndarray]:
        method = get_method(name)
        values = filled(method, len(task_vectors[0]), None, parameters)
        tensors = [
            Example(
                np.ascontiguousarray(tau, np.float32),
                np.zeros(tau.shape[1], np.float32),
                (tau.shape[1],),
                place=places[index] if places else Place(f"tensor.{index}"),
            )
            for index, tau in enumerate(task_vectors)
        ]
        return merge_model(method, tensors, values)

    return run
