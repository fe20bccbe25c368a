"""What a merge method works on: the same tensor of every model.

A method is called once for each tensor, however large. It may ask the stack for reductions (inner
products, order statistics, sums), each of which reads the tensor once, chunk by chunk, and answers with a
description of the result (:mod:`.result`), which the engine then computes chunk by chunk. So memory does
not grow with the tensor. Shapes: ``K`` models, ``n`` elements. Elements are float32, reductions float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mergery.stack.result import Combination, Mapped, Sparsity, per_model

if TYPE_CHECKING:
    from torch import Tensor

    from mergery.stack.chunk import Chunk

__all__ = ["Compute", "Place", "Reductions", "Sparse", "Stack", "TaskVectors", "Weights", "WholeModel"]

Float64 = NDArray[np.float64]


class Reductions(Protocol):
    """Sums and order statistics over all elements of some tensors."""

    @property
    def elements(self) -> int:
        """Number of elements of one model."""
        ...

    def kth_magnitude(self, ranks: Sequence[Sequence[int]]) -> Float64:
        """Magnitudes by rank; see :meth:`Stack.kth_magnitude`."""
        ...

    def kth_values(
        self, function: Callable[[Chunk], Tensor], ranks: Sequence[Sequence[int]], rows: bool = False
    ) -> Float64:
        """Values of expressions by rank; see :meth:`Stack.kth_values`."""
        ...

    def total(self, function: Callable[[Chunk], Tensor], rows: bool = False) -> Float64:
        """Sum of a function over all chunks; see :meth:`Stack.total`."""
        ...


class Compute(Reductions, Protocol):
    """How one tensor's stack is read and reduced: on the processor or on a device."""

    def gram(self, rows: bool) -> Float64:
        """Inner products; see :meth:`Stack.gram`."""
        ...

    def magnitudes(self, sparsity: Sparsity) -> Float64:
        """Sums of magnitudes before and after sparsifying, ``(K, 2)``."""
        ...


@dataclass(frozen=True)
class Place:
    """Where a tensor stands in the model.

    Attributes:
        name: of the output tensor.
        layer: its layer in the output, or none outside the layers.
        layers: number of layers of its stack.
        role: what it does (``attention``, ``mlp``, ``embedding``, …).
    """

    name: str = ""
    layer: int | None = None
    layers: int = 0
    role: str = "other"


class WholeModel:
    """The whole model's stack, for methods that look beyond one tensor.

    Each answer is computed once, for whichever tensor asks first: methods must ask the same for all.

    Args:
        reductions: over all tensors that are merged.
    """

    def __init__(self, reductions: Reductions) -> None:
        self._reductions = reductions

    @property
    def elements(self) -> int:
        """Number of elements of one model, over all tensors that are merged."""
        return self._reductions.elements

    def kth_magnitude(self, counts: Sequence[int]) -> tuple[float, ...]:
        """As :meth:`Stack.kth_magnitude`, over the whole model."""
        return _first(_kth_magnitudes(self._reductions, [[count] for count in counts]))

    def kth_magnitudes(self, counts: Sequence[Sequence[int]]) -> tuple[tuple[float, ...], ...]:
        """As :meth:`Stack.kth_magnitudes`, over the whole model."""
        return _kth_magnitudes(self._reductions, counts)

    def total(self, function: Callable[[Chunk], Tensor]) -> Float64:
        """As :meth:`Stack.total`, over the whole model. Equal functions (``==``) are computed once."""
        return self._reductions.total(function)

    def kth_value(self, function: Callable[[Chunk], Tensor], ranks: Sequence[int]) -> tuple[float, ...]:
        """As :meth:`Stack.kth_value`, over the whole model. Equal functions are computed once."""
        return self.kth_values(function, [ranks])[0]

    def kth_values(
        self, function: Callable[[Chunk], Tensor], ranks: Sequence[Sequence[int]]
    ) -> tuple[tuple[float, ...], ...]:
        """As :meth:`Stack.kth_values`, over the whole model. Equal functions are computed once."""
        return tuple(map(tuple, self._reductions.kth_values(function, ranks).tolist()))


@dataclass(frozen=True, eq=False)
class Stack:
    """The same tensor of K models.

    Attributes:
        compute: reads and reduces it.
        count: K, the number of models.
        shape: the tensor's own shape.
        place: where it stands.
        whole: reductions over the whole model; without them the tensor is the whole model.
        based: whether the models are differences from a base.
    """

    compute: Compute
    count: int
    shape: tuple[int, ...]
    place: Place = Place()
    whole: Reductions | None = None
    based: bool = False

    @property
    def elements(self) -> int:
        """n, the number of elements."""
        return math.prod(self.shape)

    @property
    def row(self) -> int:
        """Length of a row: the last axis; a vector is one row."""
        return self.shape[-1] if self.shape else 1

    @property
    def model(self) -> WholeModel:
        """The whole model's stack: each reduction reads every tensor once more."""
        return WholeModel(self.whole or self.compute)

    @cached_property
    def gram(self) -> Float64:
        """Inner products between models, ``(K, K)``."""
        return np.asarray(self.compute.gram(False)[0])

    @cached_property
    def row_gram(self) -> Float64:
        """Inner products between models row by row, ``(n / row, K, K)``."""
        return self.compute.gram(True)

    def kth_magnitude(self, counts: Sequence[int]) -> tuple[float, ...]:
        """The magnitude of each model's ``counts[k]``-th largest entry, exact.

        A count of 0 gives infinity, so that no entry reaches it; one of n or more gives 0.
        """
        return _first(_kth_magnitudes(self.compute, [[count] for count in counts]))

    def kth_magnitudes(self, counts: Sequence[Sequence[int]]) -> tuple[tuple[float, ...], ...]:
        """As :meth:`kth_magnitude` for several counts of each model at once: ``(K, T)`` both ways."""
        return _kth_magnitudes(self.compute, counts)

    def kth_value(
        self, function: Callable[[Chunk], Tensor], ranks: Sequence[int], rows: bool = False
    ) -> tuple[float, ...]:
        """Order statistics of an expression.

        Args:
            function: from a chunk to ``(m,)`` float32, none negative.
            ranks: 0 for the smallest value of all, n - 1 for the largest.
            rows: whether chunks must be made of whole rows.
        """
        return self.kth_values(function, [ranks], rows)[0]

    def kth_values(
        self, function: Callable[[Chunk], Tensor], ranks: Sequence[Sequence[int]], rows: bool = False
    ) -> tuple[tuple[float, ...], ...]:
        """As :meth:`kth_value` for several expressions at once.

        Args:
            function: from a chunk to ``(R, m)`` float32, none negative.
            ranks: ``(R, T)``.
            rows: whether chunks must be made of whole rows.

        Returns:
            ``(R, T)``.
        """
        return tuple(map(tuple, self.compute.kth_values(function, ranks, rows).tolist()))

    def total(self, function: Callable[[Chunk], Tensor], rows: bool = False) -> Float64:
        """The sum over all chunks of what ``function`` gives for each, a tensor of any one shape."""
        return self.compute.total(function, rows)

    def weighted_sum(self, weight: Sequence[float]) -> Combination:
        """``sum_k weight_k values_k``."""
        return Combination(per_model(weight), Sparsity.none(self.count))

    def map(self, function: Callable[[Chunk], Tensor], *, rows: bool = False) -> Mapped:
        """Each element by a function of its chunk; with ``rows`` chunks are made of whole rows."""
        return Mapped(function, rows)


class Weights(Stack):
    """The models' own tensors."""


class TaskVectors(Stack):
    """Differences from the base, ``tau_k = theta_k - theta_base``."""

    @property
    def dense(self) -> Sparse:
        """All entries kept, to be sparsified."""
        return Sparse(self, Sparsity.none(self.count))


@dataclass(frozen=True, eq=False)
class Sparse:
    """Task vectors with entries dropped; each method returns a new one."""

    stack: TaskVectors
    sparsity: Sparsity

    def band(self, floor: Sequence[float], ceiling: Sequence[float] | None = None) -> Sparse:
        """Keep magnitudes from ``floor`` on and below ``ceiling``, one number a model each."""
        top = self.sparsity.ceiling if ceiling is None else per_model(ceiling)
        return self._with(floor=per_model(floor), ceiling=top)

    def drop(self, keep: Sequence[float], *, spread: Sequence[float] | None = None) -> Sparse:
        """Keep entries at random, with one probability a model, or one that grows with the rank in a row."""
        spreads = self.sparsity.spread if spread is None else per_model(spread)
        return self._with(keep=per_model(keep), spread=spreads)

    def divided_by_probability(self) -> Sparse:
        """Divide what is kept by its probability, so that its expectation stays."""
        scale = [
            1.0 if spread > 0 else 1.0 / keep if keep else 0.0
            for keep, spread in zip(self.sparsity.keep, self.sparsity.spread, strict=True)
        ]
        return self._with(scale=tuple(scale), inverse=self.sparsity.ranked)

    def restored(self) -> Sparse:
        """Scale what is kept to the sum of magnitudes that there was before; zeros stay."""
        if self.sparsity.trivial:
            return self
        sums = self.stack.compute.magnitudes(self.sparsity)
        return self._with(scale=tuple(float(b / a) if a > 0 else 1.0 for b, a in sums))

    def weighted_sum(self, weight: Sequence[float]) -> Combination:
        """``sum_k weight_k sparsified_k``."""
        return Combination(per_model(weight), self.sparsity)

    def elect(self, weight: Sequence[float], shares: Sequence[float] | None = None) -> Combination:
        """The weighted sum, at each entry, of the models that agree with its sign.

        Args:
            weight: one number a model, applied before the vote.
            shares: divide by the sum of these over those that agree; by default do not divide.
        """
        return Combination(
            per_model(weight), self.sparsity, True, None if shares is None else per_model(shares)
        )

    def _with(self, **changes: Any) -> Sparse:
        return Sparse(self.stack, replace(self.sparsity, **changes))


def _kth_magnitudes(reductions: Reductions, counts: Sequence[Sequence[int]]) -> tuple[tuple[float, ...], ...]:
    n = reductions.elements
    if all(count <= 0 or count >= n for row in counts for count in row):
        found = [[0.0] * len(row) for row in counts]
    else:
        ranks = [[min(max(n - count, 0), max(n - 1, 0)) for count in row] for row in counts]
        found = reductions.kth_magnitude(ranks).tolist()
    return tuple(
        tuple(
            math.inf if count <= 0 else 0.0 if count >= n else value
            for count, value in zip(wanted, values, strict=True)
        )
        for wanted, values in zip(counts, found, strict=True)
    )


def _first(rows: tuple[tuple[float, ...], ...]) -> tuple[float, ...]:
    return tuple(row[0] for row in rows)
