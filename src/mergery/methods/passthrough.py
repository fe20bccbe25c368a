"""Tensors passed on as they are."""

from __future__ import annotations

from mergery.methods.api import PerModel, Real, each, merge_method
from mergery.stack import Merged, Weights

__all__ = ["passthrough"]


@merge_method("passthrough", paper="mergekit", base="forbidden", models=(1, 1))
def passthrough(weights: Weights, *, scale: PerModel[Real] = each(1.0)) -> Merged:
    """Copy one model's tensors, to stack layers of several models.

    Args:
        weights: the one model.
        scale: factor on the tensor; with a filter on ``o_proj`` and ``down_proj`` it sets how much a
            repeated layer adds to the residual stream.
    """
    return weights.weighted_sum(scale)
