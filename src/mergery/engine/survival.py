"""How much of a merge survives the cast to the type that it is written in.

Weights of 0.02 in bfloat16 lie 0.0001 apart: a change smaller than half of that is rounded away, and the
result is the base again. The cast, not the arithmetic, is where small merges are lost.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mergery.checkpoint import TensorInfo

__all__ = ["Survival", "total_survival"]

_MUCH_LOST = 0.25


@dataclass(frozen=True)
class Survival:
    """What a cast left of a tensor's change from its base, or of a whole model's.

    Attributes:
        name: of the tensor.
        dtype: what it was cast to, by the safetensors format's name.
        changed: elements that the merge changes.
        lost: of those, elements that the cast puts back to the base's value.
        change: the change's norm (root of the sum of squares).
        error: the norm of what the cast adds to it.
    """

    name: str
    dtype: str
    changed: int
    lost: int
    change: float
    error: float

    @classmethod
    def of(cls, output: TensorInfo, sums: Sequence[float]) -> Survival:
        """From the sums that :func:`mergery.stack.kernels.survival` makes."""
        changed, lost, change, error = sums
        return cls(
            output.name, output.dtype, round(changed), round(lost), math.sqrt(change), math.sqrt(error)
        )

    @property
    def survived(self) -> float:
        """Share of the changed elements that are not the base's again, 0 to 1."""
        return 1.0 - self.lost / self.changed if self.changed else 1.0

    @property
    def relative_error(self) -> float:
        """The cast's error as a share of the change; the change is lost where it is 1 or more."""
        return self.error / self.change if self.change else 0.0

    @property
    def advice(self) -> str | None:
        """What to do if much was lost."""
        if self.dtype == "F32" or (1.0 - self.survived < _MUCH_LOST and self.relative_error < _MUCH_LOST):
            return None
        return (
            f"in {self.dtype}, {1.0 - self.survived:.0%} of the changed weights are the base's again and the "
            f"change is {self.relative_error:.0%} off: write out_dtype: float32, or keep it as an adapter"
        )


def total_survival(parts: Sequence[Survival]) -> Survival | None:
    """Of the whole model; ``None`` where nothing has a base."""
    if not parts:
        return None
    return Survival(
        "the model",
        parts[0].dtype,
        sum(part.changed for part in parts),
        sum(part.lost for part in parts),
        _norm(part.change for part in parts),
        _norm(part.error for part in parts),
    )


def _norm(parts: Iterable[float]) -> float:
    return math.sqrt(sum(part * part for part in parts))
