"""What a method answers with: how each element of the result is made, not yet computed.

Nearly every merge is ``[drop entries of each model] -> [weigh and add, or vote] -> [scale]``, described by
:class:`Combination` and run in one fused loop. What does not fit says itself what happens to a chunk:
:class:`Mapped`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from torch import Tensor

    from mergery.stack.chunk import Chunk

__all__ = ["Combination", "Mapped", "Merged", "Sparsity"]

_SMALLEST_DIVISOR = 1e-8


@dataclass(frozen=True)
class Sparsity:
    """Which entries of each model stay, and what they are multiplied by. All are one number a model.

    Attributes:
        floor: entries of smaller magnitude are dropped.
        ceiling: entries of at least this magnitude are dropped.
        keep: probability with which each entry is kept.
        spread: with a positive one, the probability runs from ``keep - spread`` for the smallest
            entry of a row to ``keep + spread`` for its largest, linearly in the rank (MAGPRUNE,
            arXiv:2406.11617, section 3.1).
        scale: factor on what is kept.
        inverse: where there is a ``spread``, divide what is kept by its probability too.
    """

    floor: tuple[float, ...]
    ceiling: tuple[float, ...]
    keep: tuple[float, ...]
    spread: tuple[float, ...]
    scale: tuple[float, ...]
    inverse: bool = False

    @classmethod
    def none(cls, models: int) -> Sparsity:
        """Everything stays as it is."""
        ones, zeros = (1.0,) * models, (0.0,) * models
        return cls(zeros, (math.inf,) * models, ones, zeros, ones)

    @property
    def trivial(self) -> bool:
        """Whether it changes nothing."""
        return self == Sparsity.none(len(self.keep))

    @property
    def ranked(self) -> bool:
        """Whether it needs the ranks within rows."""
        return any(spread > 0 for spread in self.spread)

    @property
    def random(self) -> bool:
        """Whether it draws numbers."""
        return self.ranked or any(keep < 1 for keep in self.keep)


@dataclass(frozen=True)
class Combination:
    """``factor / divisor * sum_k weight_k sparsified_k``, perhaps only over those that agree in sign.

    Attributes:
        weight: one number a model.
        sparsity: what happens to each model first.
        elect: add, at each entry, only the models whose sign is that of the weighted sum (an exact zero
            counts as plus).
        shares: with ``elect``: divide each entry by the sum of these over the models that take part
            (where it is not zero); none: do not divide.
        divisor: divides the sum.
        factor: scale of the whole.
    """

    weight: tuple[float, ...]
    sparsity: Sparsity
    elect: bool = False
    shares: tuple[float, ...] | None = None
    divisor: float = 1.0
    factor: float = 1.0

    def __mul__(self, factor: float) -> Combination:
        """The same, scaled."""
        return replace(self, factor=self.factor * factor)

    def divided(self, divisor: float) -> Combination:
        """The same divided by a number, or as it is where that is nearly zero."""
        return replace(self, divisor=divisor) if abs(divisor) >= _SMALLEST_DIVISOR else self


@dataclass(frozen=True, eq=False)
class Mapped:
    """A function of each chunk.

    Attributes:
        function: from a chunk to its ``(m,)`` float32; for task vectors, what is added to the base.
        rows: whether chunks must be made of whole rows.
        factor: scale of the whole.
    """

    function: Callable[[Chunk], Tensor]
    rows: bool = False
    factor: float = 1.0

    def __mul__(self, factor: float) -> Mapped:
        """The same, scaled."""
        return replace(self, factor=self.factor * factor)


Merged: TypeAlias = Combination | Mapped


def per_model(values: Sequence[float]) -> tuple[float, ...]:
    """One float for each model."""
    return tuple(float(value) for value in values)
