"""Taking over some changes of one other model: the important ones, or the small ones."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from mergery.methods.api import Interval, merge_method
from mergery.stack import Merged, TaskVectors

if TYPE_CHECKING:
    from torch import Tensor

    from mergery.stack import Chunk

__all__ = ["arcee_fusion", "nearswap"]

Distance = Annotated[float, Interval(0.0, math.inf, (0.0, 0.01))]

_SMOOTHING = 1e-8


@merge_method("arcee_fusion", paper="mergekit", models=(1, 1))
def arcee_fusion(task_vectors: TaskVectors) -> Merged:
    """Take over only the important changes of one other model (Arcee Fusion).

    An entry's importance is ``|tau| KL(p || q)``, where p and q are the softmax of its row (along the last
    axis) in the model and in the base, with 1e-8 added. The changes whose importance is at least
    ``median + 1.5 (third - first quartile)`` over the tensor are kept whole, the others dropped. A
    quantile is the order statistic at or below it, ``floor(q (n - 1))`` from the smallest.

    Departs from mergekit: quantiles are exact for tensors of any size, where it draws two samples at
    random from more than a million entries; and the divergence is computed in float64, where in float32
    that of a usual fine-tune (1e-9) is rounding noise.

    Args:
        task_vectors: the one other model.
    """
    last = max(task_vectors.elements - 1, 0)
    first, median, third = task_vectors.kth_value(
        _importance, (last // 4, last // 2, 3 * last // 4), rows=True
    )
    return task_vectors.map(_Important(median + 1.5 * (third - first)), rows=True)


@merge_method("nearswap", paper="https://huggingface.co/alchemonaut/QuartetAnemoi-70B-t0.0001", models=(1, 1))
def nearswap(task_vectors: TaskVectors, *, t: Distance) -> Merged:
    """Move every weight towards one other model's, by at most a given distance (NearSwap).

    ``theta = theta_base + tau min(1, t / |tau|)``: where the models differ by less than t, the other's
    weight; elsewhere a step of t towards it. Departs from mergekit: changes below 1e-6 are no exception
    (there they count as 1e-6, which matters for smaller t only).

    Args:
        task_vectors: the one other model.
        t: the longest step.
    """
    return task_vectors.map(_Step(t))


def _importance(chunk: Chunk) -> Tensor:
    """How important each change is, ``(m,)``; of a chunk made of whole rows."""
    assert chunk.base is not None
    base = chunk.base.double().view(-1, chunk.row)
    change = chunk.rows[0].double()
    p = (base + change).softmax(-1) + _SMOOTHING
    q = base.softmax(-1) + _SMOOTHING
    divergence = (p * (p / q).log()).sum(-1, keepdim=True).clamp(min=0.0)
    return (change.abs() * divergence).float().flatten()


@dataclass(frozen=True)
class _Important:
    """The changes whose importance reaches a threshold."""

    threshold: float

    def __call__(self, chunk: Chunk) -> Tensor:
        return chunk.values[0] * (_importance(chunk) >= self.threshold)


@dataclass(frozen=True)
class _Step:
    """The changes, none longer than ``longest``."""

    longest: float

    def __call__(self, chunk: Chunk) -> Tensor:
        return chunk.values[0].clamp(-self.longest, self.longest)
