"""Ranks by magnitude: a radix sort on as many bits as the magnitudes differ in."""

from __future__ import annotations

from typing import Any

import numpy as np

from mergery.stack.kernels.compiled import Array, compiled

__all__ = ["ranks", "sorting_buffers"]

_MOST_BITS = 11  # of a digit: rows have some thousand entries; more bins would cost more than these
_MOST_DIGITS = 3
_MAGNITUDE = np.uint32(0x7FFFFFFF)
_ONE = np.uint32(1)


@compiled
def sorting_buffers(size: int) -> Any:
    """Buffers for :func:`ranks`: keys and two orders, and counts."""
    return np.empty((3, size), np.uint32), np.empty((_MOST_DIGITS, 1 << _MOST_BITS), np.uint32)


@compiled
def ranks(values: Array, sorting: Array, counts: Array) -> Any:
    """Rank of each entry by magnitude, the smallest 0; equal ones in their order.

    Args:
        values: ``(m,)`` float32.
        sorting: buffer of :func:`sorting_buffers`, as is the next.
        counts: buffer.

    Returns:
        ``(m,)`` uint32, in ``sorting``.
    """
    size = values.size
    keys, order, spare = sorting[0, :size], sorting[1, :size], sorting[2, :size]
    width = _number(values, keys)
    digits = max((width + _MOST_BITS - 1) // _MOST_BITS, 1)
    bits = (width + digits - 1) // digits
    shift, mask = np.uint32(bits), np.uint32((1 << bits) - 1)
    starts = counts[:digits, : 1 << bits]
    _count(keys, shift, starts)
    for i in range(size):
        order[i] = i
    for digit in range(digits):
        places, last = starts[digit], digit == digits - 1
        for j in range(size):
            i = order[j]
            bin_ = keys[i] & mask
            keys[i] >>= shift
            place = places[bin_]
            places[bin_] = place + _ONE
            if last:
                spare[i] = place
            else:
                spare[place] = i
        order, spare = spare, order
    return order


@compiled
def _number(values: Array, keys: Array) -> Any:
    """Number magnitudes in their order, from 0 and with few bits; how many bits."""
    bits = values.view(np.uint32)
    largest, smallest, used = np.uint32(0), np.uint32(0xFFFFFFFF), np.uint32(0)
    for i in range(values.size):
        key = bits[i] & _MAGNITUDE
        keys[i] = key
        largest = max(largest, key)
        smallest = min(smallest, key - _ONE)  # of those that are not 0: there it becomes the largest number
        used |= key
    if largest == 0:
        return 0
    unused = np.uint32(0)  # last bits, which differences of bfloat16 have many of
    while not (used >> unused) & _ONE:
        unused += _ONE
    gap = ((smallest + _ONE) >> unused) - _ONE
    for i in range(values.size):
        key = keys[i] >> unused
        keys[i] = key - gap if key else key
    width = 0
    while ((largest >> unused) - gap) >> np.uint32(width):
        width += 1
    return width


@compiled
def _count(keys: Array, shift: Any, starts: Array) -> None:
    """Where the entries of each digit begin among all, ``(digits, bins)``, in the order of digits."""
    digits, bins = starts.shape
    mask = np.uint32(bins - 1)
    starts[:] = 0
    for i in range(keys.size):
        key = keys[i]
        starts[0, key & mask] += _ONE
        if digits > 1:
            starts[1, (key >> shift) & mask] += _ONE
        if digits > 2:
            starts[2, key >> (shift + shift)] += _ONE
    for digit in range(digits):
        place = np.uint32(0)
        for bin_ in range(bins):
            count = starts[digit, bin_]
            starts[digit, bin_] = place
            place += count
