"""Which entries of a model stay: by magnitude, at random, or at random by rank."""

from __future__ import annotations

from typing import Any

import numpy as np

from mergery.stack.kernels.compiled import Array, compiled
from mergery.stack.kernels.rank import ranks, sorting_buffers

__all__ = ["sparsify", "uniform", "workspace"]

_GOLDEN_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_SHIFT_1, _SHIFT_2, _SHIFT_3, _TO_24_BITS = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(40)


@compiled
def uniform(stream: Any, first: int, out: Array) -> None:
    """SplitMix64's numbers of 24 bits, ``(m,)`` uint32, from element ``first`` of a stream."""
    for i in range(out.size):
        state = np.uint64(first + i + 1) * _GOLDEN_GAMMA + stream
        state = (state ^ (state >> _SHIFT_1)) * _MIX_1
        state = (state ^ (state >> _SHIFT_2)) * _MIX_2
        out[i] = np.uint32((state ^ (state >> _SHIFT_3)) >> _TO_24_BITS)


@compiled
def _band(values: Array, floor: Any, ceiling: Any) -> None:
    """Zero what is smaller than the floor, or at least the ceiling."""
    for i in range(values.size):
        size = abs(values[i])
        values[i] = values[i] if floor <= size and size < ceiling else np.float32(0)


@compiled
def _drop(values: Array, numbers: Array, limit: Any, scale: Any) -> None:
    """Keep the entries whose number of 24 bits is below the limit, scaled."""
    for i in range(values.size):
        values[i] = values[i] * scale if numbers[i] < limit else np.float32(0)


@compiled
def _drop_by_rank(
    values: Array, numbers: Array, places: Array, keep: float, spread: float, inverse: bool, scale: Any
) -> None:
    """Keep entries with a probability that grows with the rank from keep - spread to keep + spread."""
    size = values.size
    step = 2.0 * spread / (size - 1) if size > 1 else 0.0
    low = keep - spread if size > 1 else keep
    for i in range(size):
        probability = low + step * places[i]
        if numbers[i] * 2.0**-24 < probability:
            values[i] = values[i] * (scale / np.float32(probability) if inverse else scale)
        else:
            values[i] = np.float32(0)


@compiled
def sparsify(
    values: Array,
    model: int,
    first: int,
    settings: Array,
    streams: Array,
    inverse: bool,
    numbers: Array,
    sorting: Array,
    counts: Array,
) -> None:
    """Drop entries of one model's block, or row, in place.

    Args:
        values: the entries.
        model: whose they are.
        first: index of the first in its tensor, for random numbers.
        settings: ``(K, 5)`` float64: each model's floor, ceiling, keep, spread and scale.
        streams: ``(K,)`` uint64: of random numbers.
        inverse: whether what is kept by rank is divided by its probability.
        numbers: buffer of :func:`workspace`, as are the next two. Not tuples: counting the references to the
            arrays in them costs more than it looks.
        sorting: buffer.
        counts: buffer.
    """
    floor, ceiling = np.float32(settings[model, 0]), np.float32(settings[model, 1])
    keep, spread, scale = settings[model, 2], settings[model, 3], np.float32(settings[model, 4])
    if floor > 0 or ceiling < np.inf:
        _band(values, floor, ceiling)
    if spread > 0:
        uniform(streams[model], first, numbers)
        _drop_by_rank(values, numbers, ranks(values, sorting, counts), keep, spread, inverse, scale)
    elif keep < 1:
        uniform(streams[model], first, numbers)
        _drop(values, numbers, np.uint32(np.ceil(keep * 2.0**24)), scale)
    elif scale != 1:
        for i in range(values.size):
            values[i] *= scale


@compiled
def workspace(block: int, ranked: bool) -> Any:
    """Buffers for :func:`sparsify`: random numbers, and those of :func:`ranks`."""
    sorting, counts = sorting_buffers(block if ranked else 1)
    return np.empty(block, np.uint32), sorting, counts
