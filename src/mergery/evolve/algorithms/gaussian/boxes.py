"""What a Pareto front leaves to be gained: the part of the objectives' space that it does not dominate."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["free_boxes"]

Array = NDArray[np.float64]


def free_boxes(losses: Array, reference: Array) -> tuple[Array, Array]:
    """The part below a reference that is not dominated, as disjoint boxes.

    The last loss is cut at its values; between two cuts the same rows count, and what they leave free is the
    same question with one loss fewer. At most n + 1 boxes for two losses, (n + 1)(n + 2) / 2 for three.

    Args:
        losses: ``(n, k)``.
        reference: ``(k,)``; rows that are not below it dominate nothing.

    Returns:
        ``(boxes, k)`` lower corners, -inf where a box is open, and upper corners.
    """
    inside = losses[(losses < reference).all(1)]
    if len(reference) == 1:
        return np.full((1, 1), -np.inf), np.minimum(inside.min(0, initial=np.inf), reference)[None]
    cuts = np.unique(inside[:, -1])
    lowers, uppers = [], []
    for low, high in zip([-np.inf, *cuts], [*cuts, reference[-1]], strict=True):
        lower, upper = free_boxes(inside[inside[:, -1] <= low, :-1], reference[:-1])
        lowers.append(np.column_stack([lower, np.full(len(lower), low)]))
        uppers.append(np.column_stack([upper, np.full(len(upper), high)]))
    return np.concatenate(lowers), np.concatenate(uppers)
