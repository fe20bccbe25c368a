"""Counts that order statistics of magnitudes are found by."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba.cpython.unsafe.numbers import trailing_zeros

from mergery.stack.kernels.bits import difference, widen
from mergery.stack.kernels.compiled import BLOCK, Array, compiled

__all__ = ["histogram", "refine", "sift"]

_LANES = 64  # elements that are compared at once
_SPAN = 32 * _LANES  # elements that _LANES numbers of 32 bits have a bit for
_MAGNITUDE = np.uint32(0x7FFFFFFF)
_HALF = np.uint32(16)
_LOWER_BINS = np.uint32(1 << 16)
_first_bit: Any = trailing_zeros  # a function only in compiled code: its type says otherwise
_ONE, _ZERO = np.uint32(1), np.uint32(0)


@compiled
def histogram(rows: Array, based: bool, counts: Array) -> None:
    """Count magnitudes by the upper 15 bits of their float32, into ``(K, 32768)`` int64."""
    models = rows.shape[0] - (1 if based else 0)
    base, values = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    bits = values.view(np.uint32)
    for start in range(0, rows.shape[1], BLOCK):
        stop = min(start + BLOCK, rows.shape[1])
        if based:
            widen(rows[0, start:stop], base)
        for model in range(models):
            difference(rows, model, based, start, stop, base, values)
            for i in range(stop - start):
                counts[model, (bits[i] & _MAGNITUDE) >> _HALF] += 1


@compiled
def refine(rows: Array, based: bool, wanted: Array, counts: Array) -> None:
    """Count the lower 16 bits of the magnitudes whose upper bits are wanted.

    Args:
        rows: ``(R, m)``.
        based: the first row is a base.
        wanted: ``(K, T)`` uint32: upper bits.
        counts: ``(K, T, 65536)`` int64, added to.
    """
    models, targets = wanted.shape
    base, values = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    bits = values.view(np.uint32)
    for start in range(0, rows.shape[1], BLOCK):
        stop = min(start + BLOCK, rows.shape[1])
        if based:
            widen(rows[0, start:stop], base)
        for model in range(models):
            difference(rows, model, based, start, stop, base, values)
            for target in range(targets):
                _count_inside(bits[: stop - start], wanted[model, target] << _HALF, counts[model, target])


@compiled
def _count_inside(bits: Array, begin: Any, counts: Array) -> None:
    """Count what lies in the 65536 magnitudes from ``begin`` on.

    Few lie there, or many that are all the first: differences of bfloat16 have few bits. So whole groups
    are compared at once, and looked at one by one only where some other is inside.
    """
    size, first = bits.size, np.int64(0)
    whole = size // _LANES * _LANES
    for group in range(0, whole, _LANES):
        inside, equal = np.int32(0), np.int32(0)
        for lane in range(_LANES):
            place = (bits[group + lane] & _MAGNITUDE) - begin
            inside += np.int32(place < _LOWER_BINS)
            equal += np.int32(place == 0)
        if inside == equal:
            first += equal
        else:
            _count_one_by_one(bits[group : group + _LANES], begin, counts)
    counts[0] += first
    _count_one_by_one(bits[whole:], begin, counts)


@compiled
def _count_one_by_one(bits: Array, begin: Any, counts: Array) -> None:
    """The same for a few."""
    for i in range(bits.size):
        place = (bits[i] & _MAGNITUDE) - begin
        if place < _LOWER_BINS:
            counts[place] += 1


@compiled
def sift(rows: Array, based: bool, bounds: Array, tallies: Array, kept: Array, sizes: Array) -> None:
    """Count the magnitudes below a bracket, and keep those inside it.

    Two of them are counted and not kept: in differences of bfloat16, many are equal to the first of a bin.

    Args:
        rows: ``(R, m)``.
        based: the first row is a base.
        bounds: ``(K, T, 3)`` uint32, bits of magnitudes: the bracket's first, one inside it, and what lies
            behind it.
        tallies: ``(K, T, 3)`` int64, added to: those below, those equal to the first, to the one inside.
        kept: ``(K, T, C)`` uint32: the others inside the bracket, in no order.
        sizes: ``(K, T)`` int64: how many are kept so far. From C - 4096 on, some may be missing.
    """
    models, targets = sizes.shape
    base, values = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    bits, lanes = values.view(np.uint32), np.empty((4, _LANES), np.uint32)
    for start in range(0, rows.shape[1], BLOCK):
        stop = min(start + BLOCK, rows.shape[1])
        block = bits[: stop - start]
        if based:
            widen(rows[0, start:stop], base)
        for model in range(models):
            difference(rows, model, based, start, stop, base, values)
            for i in range(block.size):
                block[i] &= _MAGNITUDE
            for target in range(targets):
                bound, tally = bounds[model, target], tallies[model, target]
                held, size = kept[model, target], sizes[model, target]
                if size + BLOCK <= held.size:
                    sizes[model, target] = _sift(block, bound, lanes, tally, held, size)


@compiled
def _sift(bits: Array, bound: Array, lanes: Array, tally: Array, kept: Array, size: int) -> int:
    """One block of magnitudes; the new number of those that are kept."""
    first, inside, behind = bound[0], bound[1], bound[2]
    below, equal, middle, found = lanes[0], lanes[1], lanes[2], lanes[3]
    lanes[:] = 0
    width = behind - first - _ONE
    whole = bits.size // _SPAN * _SPAN
    for span in range(0, whole, _SPAN):
        found[:] = 0
        for step in range(32):  # to each lane a bit for each step: no branch, and nothing across lanes
            begin, bit = span + step * _LANES, _ONE << np.uint32(step)
            for lane in range(_LANES):
                magnitude = bits[begin + lane]
                below[lane] += np.uint32(magnitude < first)
                equal[lane] += np.uint32(magnitude == first)
                middle[lane] += np.uint32(magnitude == inside)
                wanted = (magnitude - first - _ONE < width) & (magnitude != inside)
                found[lane] |= bit if wanted else _ZERO
        for lane in range(_LANES):
            left = found[lane]
            while left:
                kept[size] = bits[span + lane + _LANES * _first_bit(left)]
                size += 1
                left &= left - _ONE
    for i in range(whole, bits.size):
        magnitude = bits[i]
        below[0] += np.uint32(magnitude < first)
        equal[0] += np.uint32(magnitude == first)
        middle[0] += np.uint32(magnitude == inside)
        if first < magnitude and magnitude < behind and magnitude != inside:
            kept[size] = magnitude
            size += 1
    for lane in range(_LANES):
        tally[0] += below[lane]
        tally[1] += equal[lane]
        tally[2] += middle[lane]
    return size
