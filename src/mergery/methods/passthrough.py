"""Tensors passed on as they are, or times a factor, plus a constant."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mergery.methods.api import PerModel, Real, each, merge_method
from mergery.stack import Chunk, Merged, Weights

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["passthrough"]


@merge_method("passthrough", paper="mergekit", base="forbidden", models=(1, 1))
def passthrough(
    weights: Weights, *, scale: PerModel[Real] = each(1.0), shift: PerModel[Real] = each(0.0)
) -> Merged:
    """Copy one model's tensors, to stack layers of several models.

    Args:
        weights: the one model.
        scale: factor on the tensor; with a filter on ``o_proj`` and ``down_proj`` it sets how much a
            repeated layer adds to the residual stream.
        shift: added to every entry after that (our addition; mergekit ignores it). Norms that store
            their weight less one, as Gemma's do, put out g times as much with scale g and shift g - 1.
    """
    if shift[0] == 0.0:
        return weights.weighted_sum(scale)
    return weights.map(_Affine(scale[0], shift[0]))


@dataclass(frozen=True)
class _Affine:
    scale: float
    shift: float

    def __call__(self, chunk: Chunk) -> Tensor:
        return self.scale * chunk.values[0] + self.shift
