"""What a merge method works on: the same tensor of every model, flattened and stacked.

Shapes: ``K`` models, ``n`` elements. A stack holds ``(K, n)`` float32 and a method returns ``(n,)``
float32; the engine restores the shape and casts once. Reductions are float64.

Sums over models run one model after the other, multiplying and adding as two operations: each is
correctly rounded by itself, so the bits do not depend on how an array is cut for threads or chunks
(a fused multiply-add in some lanes and not in others would make them).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

from mergery.methods.random import RandomKey, uniform

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Stack", "TaskVectors", "Weights"]


@dataclass(frozen=True, eq=False)
class Stack:
    """The same tensor of K models.

    Attributes:
        values: ``(K, n)`` float32; never written to by a method.
        shape: the tensor's own shape, of n elements.
        key: names this tensor for random masks.
    """

    values: Tensor
    shape: tuple[int, ...]
    key: RandomKey = field(default_factory=RandomKey)

    @property
    def count(self) -> int:
        """K, the number of models."""
        return self.values.shape[0]

    @property
    def elements(self) -> int:
        """n, the number of elements."""
        return self.values.shape[1]

    def column(self, per_model: Sequence[float]) -> Tensor:
        """One number for each model as ``(K, 1)`` float32, to broadcast over the elements."""
        return self.values.new_tensor(tuple(per_model)).unsqueeze(1)

    def weighted_sum(self, weight: Sequence[float]) -> Tensor:
        """``sum_k weight_k values_k``, ``(n,)``."""
        return weighted_sum(self.values, weight)

    @cached_property
    def gram(self) -> Tensor:
        """Inner products between models, ``(K, K)`` float64."""
        wide = self.values.double()
        return wide @ wide.T

    def kth_magnitude(self, counts: Sequence[int]) -> Tensor:
        """The magnitude of each model's ``counts[k]``-th largest entry, ``(K, 1)`` float32.

        A count of 0 gives infinity, so that no entry reaches it.
        """
        thresholds = [
            float(row.abs().kthvalue(self.elements - count + 1).values) if count else float("inf")
            for row, count in zip(self.values, counts, strict=True)
        ]
        return self.column(thresholds)

    def uniform(self) -> Tensor:
        """Uniform numbers in [0, 1), ``(K, n)`` float32, from a counter: see :mod:`.random`."""
        return uniform(self.key, self.count, self.elements, self.values)


class TaskVectors(Stack):
    """Differences from the base, ``tau_k = theta_k - theta_base``."""


class Weights(Stack):
    """The models' own tensors."""


def weighted_sum(rows: Tensor, weight: Sequence[float]) -> Tensor:
    """``sum_k weight_k rows_k`` for ``rows`` of shape ``(K, n)``, model by model."""
    total = rows[0] * weight[0]
    for row, factor in zip(rows[1:], weight[1:], strict=True):
        total += row * factor
    return total
