"""Exact order statistics of magnitudes from two counts, without sorting or holding them.

A float32's magnitude, read as a whole number of 31 bits, is in the same order as the magnitude itself. So
a histogram of the upper 15 bits says in which bin the wanted entry lies, and a histogram of the lower 16
bits of that bin's entries says which it is (radix selection).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["LOWER_BINS", "UPPER_BINS", "select"]

UPPER_BINS = 1 << 15
LOWER_BINS = 1 << 16

Counts = NDArray[np.int64]


def select(
    histogram: Callable[[], Counts], refine: Callable[[NDArray[np.uint32]], Counts], ranks: NDArray[np.int64]
) -> NDArray[np.float64]:
    """The magnitudes of given ranks.

    Args:
        histogram: counts by upper bits, ``(K, 32768)``; they are overwritten.
        refine: for wanted upper bits ``(K, T)``, counts by lower bits, ``(K, T, 65536)``; overwritten, too.
        ranks: ``(K, T)``, 0 for the smallest.

    Returns:
        ``(K, T)``: values of float32.
    """
    below = _summed(histogram())
    upper = np.stack(
        [np.searchsorted(row, wanted, side="right") for row, wanted in zip(below, ranks, strict=True)]
    )
    before = np.where(upper > 0, np.take_along_axis(below, np.maximum(upper - 1, 0), axis=1), 0)
    inside = _summed(refine(upper.astype(np.uint32)))
    lower = (inside <= (ranks - before)[..., None]).sum(axis=2)
    bits = (upper.astype(np.uint32) << np.uint32(16)) | lower.astype(np.uint32)
    return np.asarray(bits.view(np.float32), np.float64)


def _summed(counts: Counts) -> Counts:
    return np.cumsum(counts, axis=-1, out=counts)
