"""Exact order statistics of magnitudes from two counts, without sorting or holding them.

A float32's magnitude, read as a whole number of 31 bits, is in the same order as the magnitude itself. So
a histogram of the upper 15 bits says in which bin the wanted entry lies, and a histogram of the lower 16
bits of that bin's entries says which it is (radix selection).

Where a tensor is large, a sample says between which magnitudes the entry lies, most often. Then one reading
is enough: it counts what is below them and keeps what is between (Floyd and Rivest, "Expected time bounds
for selection", 1975).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["LARGE", "LOWER_BINS", "UPPER_BINS", "Sifted", "select", "select_near"]

UPPER_BINS = 1 << 15
LOWER_BINS = 1 << 16

LARGE = 1 << 19
"""Elements of a tensor from which on a sample of it says enough."""

Counts = NDArray[np.int64]

_DEVIATIONS = 3  # of a rank in the sample, were it drawn at random
_UNEVEN = 0.008  # of the sample, over the root of its pieces: neighbours are alike


class Sifted(NamedTuple):
    """What one reading finds of brackets.

    Attributes:
        tallies: ``(K, T, 3)``: elements below the first inside, equal to it, and equal to the first of the
            last bin where that is another.
        kept: ``(K, T, C)`` uint32: bits of the others inside, in no order.
        sizes: ``(K, T)``: how many those are.
    """

    tallies: Counts
    kept: NDArray[np.uint32]
    sizes: Counts


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


def select_near(
    sample: Counts,
    pieces: int,
    sift: Callable[[NDArray[np.uint32]], Sifted | None],
    ranks: NDArray[np.int64],
    elements: int,
) -> NDArray[np.float64] | None:
    """The magnitudes of given ranks, which are looked for where a sample has them.

    Args:
        sample: its counts by upper bits, ``(K, 32768)``; they are overwritten.
        pieces: how many places it is from.
        sift: reads all elements, and says for brackets what lies below and in them; none if that is too much.
        ranks: ``(K, T)``, 0 for the smallest of all elements.
        elements: how many there are.

    Returns:
        ``(K, T)``: values of float32; none where the sample misleads twice.
    """
    below = _summed(sample)
    share = below[:, -1:] / elements
    uneven = _UNEVEN / np.sqrt(pieces)
    surplus = np.zeros(ranks.shape)
    for _ in range(2):
        bounds = _bracket(below, ranks * share - surplus, uneven)
        sifted = sift(bounds)
        if sifted is None:
            return None
        found = [_within(int(rank), bounds[at], sifted, at) for at, rank in np.ndenumerate(ranks)]
        if None not in found:
            return np.array(found, np.uint32).view(np.float32).astype(np.float64).reshape(ranks.shape)
        surplus = _surplus(below, share, bounds, sifted, ranks)
    return None


def _bracket(below: Counts, expected: NDArray[np.float64], uneven: float) -> NDArray[np.uint32]:
    """Between which magnitudes entries lie.

    Args:
        below: ``(K, 32768)``: the sample's entries up to each bin.
        expected: ``(K, T)``: their ranks in the sample, about.
        uneven: the share of the sample by which ranks may be wrong since it is not drawn at random.

    Returns:
        ``(K, T, 3)``, bits of magnitudes: the first inside, the first of the last bin, the first behind.
    """
    size = below[:, -1:]
    likely = np.clip(expected, 0, size)
    error = 1 + uneven * size + _DEVIATIONS * np.sqrt(likely * (1 - likely / size))
    lowest, highest = (
        np.stack([np.searchsorted(row, rank, side="right") for row, rank in zip(below, edge, strict=True)])
        for edge in (expected - error, expected + error)
    )
    highest = np.minimum(highest, UPPER_BINS - 1)
    bins = np.stack([np.minimum(lowest, highest), highest, highest + 1], axis=-1)
    return bins.astype(np.uint32) << np.uint32(16)


def _within(rank: int, bounds: NDArray[np.uint32], sifted: Sifted, at: tuple[int, ...]) -> np.uint32 | None:
    """The bits of a rank's magnitude; none if it does not lie inside."""
    kept = sifted.kept[at][: sifted.sizes[at]]
    below, equal, middle = sifted.tallies[at]
    before = equal + np.count_nonzero(kept < bounds[1])
    place = rank - below
    if 0 <= place < equal:
        return np.uint32(bounds[0])
    if before <= place < before + middle:
        return np.uint32(bounds[1])
    place -= equal if place < before else equal + middle
    return np.uint32(np.partition(kept, place)[place]) if 0 <= place < kept.size else None


def _surplus(
    below: Counts,
    share: NDArray[np.float64],
    bounds: NDArray[np.uint32],
    sifted: Sifted,
    ranks: NDArray[np.int64],
) -> NDArray[np.float64]:
    """How many more than the sample has lie below the bracket's nearer edge, on its scale: ``(K, T)``."""
    first, behind = (bounds[..., edge].astype(np.int64) >> 16 for edge in (0, 2))
    until = np.pad(below, ((0, 0), (1, 0)))
    expected = [np.take_along_axis(until, bins, axis=1) for bins in (first, behind)]
    known = [sifted.tallies[..., 0], sifted.tallies.sum(axis=-1) + sifted.sizes]
    before, after = (count * share - sampled for count, sampled in zip(known, expected, strict=True))
    return np.asarray(np.where(ranks < known[0], before, after))


def _summed(counts: Counts) -> Counts:
    return np.cumsum(counts, axis=-1, out=counts)
