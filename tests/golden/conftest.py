"""Merging one tensor in memory by a method's name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from mergery.methods import PerModel, RandomKey, get_method
from mergery.methods.testing import Example, merge_arrays

Merge = Callable[..., np.ndarray]


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
        values = {}
        for parameter in method.parameters.values():
            value = parameters.pop(parameter.name, method.default(parameter, compat))
            if parameter.per_model:
                value = PerModel(value if isinstance(value, Sequence) else [value] * len(models))
            values[parameter.name] = value
        assert not parameters, f"{name} does not have {list(parameters)}"
        given = Example(
            np.ascontiguousarray(models, np.float32),
            None if base is None else np.ascontiguousarray(base, np.float32),
            shape or (models.shape[1],),
            RandomKey(seed, "layer.weight"),
        )
        return merge_arrays(method, given, values)

    return run
