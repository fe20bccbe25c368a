"""A few points that stand for many: farthest-first traversal (Gonzalez, 1985)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["spread"]


def spread(points: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Indices of ``count`` points that lie far apart, the first point first; all, if there are no more.

    Args:
        points: ``(n, d)``; each choice is the point farthest from those chosen before.
        count: how many are wanted.
    """
    if len(points) <= count:
        return np.arange(len(points))
    chosen = np.zeros(count, dtype=np.int64)
    distance = np.full(len(points), np.inf)
    for place in range(1, count):
        distance = np.minimum(distance, ((points - points[chosen[place - 1]]) ** 2).sum(1))
        chosen[place] = int(np.argmax(distance))
    return chosen
