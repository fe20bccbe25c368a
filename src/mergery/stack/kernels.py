"""The loops that touch every element, compiled for the processor by numba.

Shapes: ``rows`` is ``(R, m)``, R operands of m elements each, either uint16 (the bits of bfloat16) or
float32. With ``based`` the first row is the base and the others are read as differences from it, so that
K = R - 1 models remain; else K = R. All loops run over blocks that stay in the first-level cache.

Multiplications and additions are rounded one by one and sums run in a fixed order, so the bits depend on
neither threads nor the length of what is passed. Every function releases the interpreter's lock.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = [
    "combine",
    "differences",
    "gram",
    "histogram",
    "largest_bits",
    "magnitudes",
    "narrow",
    "refine",
    "survival",
    "uniform",
    "widen",
]

F = TypeVar("F", bound=Callable[..., Any])
Array = NDArray[Any]


def compiled(function: F) -> F:
    """Compile without the interpreter's lock; the machine code is kept on disk between processes."""
    result: F = njit(nogil=True, cache=True, error_model="numpy")(function)
    return result


_BLOCK = 1024
_LANES = 16
_GOLDEN_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
_SHIFT_1, _SHIFT_2, _SHIFT_3, _TO_24_BITS = np.uint64(30), np.uint64(27), np.uint64(31), np.uint64(40)
_RADIX_BITS = 11
_RADIX_BINS = 1 << _RADIX_BITS
_MAGNITUDE = np.uint32(0x7FFFFFFF)
_HALF = np.uint32(16)
_LOW = np.uint32(0xFFFF)


@compiled
def widen(bits: Array, out: Array) -> None:
    """bfloat16 bits or float32 ``(m,)`` to float32 ``(m,)``."""
    if bits.itemsize == 2:
        wide = out.view(np.uint32)
        for i in range(bits.size):
            wide[i] = np.uint32(bits[i]) << _HALF
    else:
        for i in range(bits.size):
            out[i] = bits[i]


@compiled
def narrow(values: Array, out: Array) -> None:
    """float32 ``(m,)`` to the bits of bfloat16, rounded to nearest, ties to even; NaN stays NaN."""
    bits = values.view(np.uint32)
    for i in range(values.size):
        x = bits[i]
        rounded = (x + np.uint32(0x7FFF) + ((x >> _HALF) & np.uint32(1))) >> _HALF
        out[i] = np.uint16(0x7FC0) if (x & _MAGNITUDE) > np.uint32(0x7F800000) else np.uint16(rounded)


@compiled
def largest_bits(bits: Array, magnitude: Any) -> Any:
    """The largest of the bits below the sign: at or above the exponent's all-ones there is no number."""
    largest = bits[0] & magnitude
    for i in range(1, bits.size):
        largest = max(largest, bits[i] & magnitude)
    return largest


@compiled
def _difference(rows: Array, model: int, based: bool, start: int, stop: int, base: Array, out: Array) -> None:
    """One model's block as float32: the difference from ``base`` if there is one."""
    size = stop - start
    if based:
        widen(rows[model + 1, start:stop], out[:size])
        for i in range(size):
            out[i] -= base[i]
    else:
        widen(rows[model, start:stop], out[:size])


@compiled
def differences(rows: Array, based: bool, base: Array, values: Array) -> None:
    """Widen all rows: the base to ``(m,)``, the models (their differences from it) to ``(K, m)``."""
    if based:
        widen(rows[0], base)
    for model in range(values.shape[0]):
        _difference(rows, model, based, 0, rows.shape[1], base, values[model])


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
def _ranks(values: Array, keys: Array, order: Array, spare: Array, counts: Array, ranks: Array) -> None:
    """Rank of each entry by magnitude, the smallest 0; equal ones in their order. Radix sort, stable."""
    size = values.size
    bits = values.view(np.uint32)
    for i in range(size):
        keys[i] = bits[i] & _MAGNITUDE
        order[i] = i
    for digit in range(3):
        shift = np.uint32(digit * _RADIX_BITS)
        counts[:] = 0
        for i in range(size):
            counts[(keys[i] >> shift) & np.uint32(_RADIX_BINS - 1)] += 1
        place = 0
        for bin_ in range(_RADIX_BINS):
            count = counts[bin_]
            counts[bin_] = place
            place += count
        for i in range(size):
            entry = order[i]
            bin_ = (keys[entry] >> shift) & np.uint32(_RADIX_BINS - 1)
            spare[counts[bin_]] = entry
            counts[bin_] += 1
        order[:size] = spare[:size]
    for i in range(size):
        ranks[order[i]] = i


@compiled
def _drop_by_rank(
    values: Array, numbers: Array, ranks: Array, keep: float, spread: float, inverse: bool, scale: Any
) -> None:
    """Keep entries with a probability that grows with the rank from keep - spread to keep + spread."""
    size = values.size
    step = 2.0 * spread / (size - 1) if size > 1 else 0.0
    low = keep - spread if size > 1 else keep
    for i in range(size):
        probability = low + step * ranks[i]
        if numbers[i] * 2.0**-24 < probability:
            values[i] = values[i] * (scale / np.float32(probability) if inverse else scale)
        else:
            values[i] = np.float32(0)


@compiled
def _sparsify(values: Array, model: int, first: int, sparse: Any, work: Any) -> None:
    """Drop entries of one model's block, or row, in place."""
    floor, ceiling, keep, spread, scale, inverse, streams = sparse
    keys, order, spare, counts, ranks, numbers = work
    if floor[model] > 0 or ceiling[model] < np.inf:
        _band(values, floor[model], ceiling[model])
    if spread[model] > 0:
        uniform(streams[model], first, numbers[: values.size])
        _ranks(values, keys, order, spare, counts, ranks)
        _drop_by_rank(values, numbers, ranks, keep[model], spread[model], inverse, scale[model])
    elif keep[model] < 1:
        uniform(streams[model], first, numbers[: values.size])
        limit = np.uint32(np.ceil(keep[model] * 2.0**24))
        _drop(values, numbers[: values.size], limit, scale[model])
    elif scale[model] != 1:
        for i in range(values.size):
            values[i] *= scale[model]


@compiled
def _workspace(block: int, ranked: bool) -> Any:
    size = block if ranked else 1
    return (
        np.empty(size, np.uint32),
        np.empty(size, np.uint32),
        np.empty(size, np.uint32),
        np.empty(_RADIX_BINS, np.int64),
        np.empty(size, np.uint32),
        np.empty(block, np.uint32),
    )


@compiled
def _add(values: Array, weight: Any, total: Array, begin: bool) -> None:
    if begin:
        for i in range(values.size):
            total[i] = values[i] * weight
    else:
        for i in range(values.size):
            total[i] += values[i] * weight


@compiled
def _agree(values: Array, weight: Any, share: Any, majority: Array, total: Array, divisor: Array) -> None:
    """Add the weighted entries whose sign is that of the majority, and their weights' shares."""
    for i in range(values.size):
        change = values[i] * weight
        positive = majority[i] >= 0
        agrees = (change > 0) if positive else (change < 0)
        total[i] += change if agrees else np.float32(0)
        divisor[i] += share if agrees else np.float32(0)


@compiled
def combine(
    rows: Array,
    based: bool,
    first: int,
    row: int,
    weight: Array,
    share: Array,
    sparse: Any,
    mode: Any,
    out: Array,
) -> None:
    """The weighted sum of sparsified models, added to the base; ``(m,)`` float32 into ``out``.

    Args:
        rows: ``(R, m)``.
        based: the first row is a base.
        first: index of the first element in its tensor, for random numbers.
        row: elements that are ranked together, dividing m; 0 where nothing is ranked.
        weight: ``(K,)`` float32.
        share: ``(K,)`` float32: what each model adds to the divisor where it agrees.
        sparse: floor, ceiling, keep, spread, scale (float32 ``(K,)`` but keep and spread float64),
            inverse (bool), streams (``(K,)`` uint64).
        mode: drops (bool: anything is sparsified), elect (bool), divide (bool: by the shares that agree),
            divisor, factor (float32).
        out: result.
    """
    drops, elect, divide, divisor, factor = mode
    models = rows.shape[0] - (1 if based else 0)
    block = row if row else _BLOCK
    work = _workspace(block, row > 0)
    base, values = np.empty(block, np.float32), np.empty((models if elect else 1, block), np.float32)
    majority, total, shares = (
        np.empty(block, np.float32),
        np.empty(block, np.float32),
        np.empty(block, np.float32),
    )
    for start in range(0, out.size, block):
        stop = min(start + block, out.size)
        size = stop - start
        if based:
            widen(rows[0, start:stop], base[:size])
        for model in range(models):
            held = values[model if elect else 0, :size]
            _difference(rows, model, based, start, stop, base, held)
            if drops:
                _sparsify(held, model, first + start, sparse, work)
            _add(held, weight[model], majority[:size], model == 0)
        merged = majority
        if elect:
            merged = total
            total[:size] = 0
            shares[:size] = 0
            for model in range(models):
                _agree(values[model, :size], weight[model], share[model], majority, total, shares)
            if divide:
                for i in range(size):
                    total[i] = total[i] / shares[i] if shares[i] != 0 else total[i]
        if divisor != 1:
            for i in range(size):
                merged[i] /= divisor
        if factor != 1:
            for i in range(size):
                merged[i] *= factor
        if based:
            for i in range(size):
                out[start + i] = base[i] + merged[i]
        else:
            out[start:stop] = merged[:size]


@compiled
def magnitudes(rows: Array, based: bool, first: int, row: int, sparse: Any, sums: Array) -> None:
    """Add each model's sums of magnitudes before and after sparsifying to ``sums``, ``(K, 2)`` float64."""
    models = rows.shape[0] - (1 if based else 0)
    block = row if row else _BLOCK
    work = _workspace(block, row > 0)
    base, values = np.empty(block, np.float32), np.empty(block, np.float32)
    for start in range(0, rows.shape[1], block):
        stop = min(start + block, rows.shape[1])
        size = stop - start
        if based:
            widen(rows[0, start:stop], base[:size])
        for model in range(models):
            _difference(rows, model, based, start, stop, base, values)
            sums[model, 0] += _total(values[:size])
            _sparsify(values[:size], model, first + start, sparse, work)
            sums[model, 1] += _total(values[:size])


@compiled
def _total(values: Array) -> float:
    """Sum of magnitudes, in float64."""
    lanes = np.zeros(_LANES, np.float64)
    whole = values.size // _LANES * _LANES
    for start in range(0, whole, _LANES):
        for lane in range(_LANES):
            lanes[lane] += abs(np.float64(values[start + lane]))
    total = lanes.sum()
    for i in range(whole, values.size):
        total += abs(np.float64(values[i]))
    return total


@compiled
def _dot(left: Array, right: Array) -> float:
    """Inner product, in float64."""
    lanes = np.zeros(_LANES, np.float64)
    whole = left.size // _LANES * _LANES
    for start in range(0, whole, _LANES):
        for lane in range(_LANES):
            lanes[lane] += np.float64(left[start + lane]) * np.float64(right[start + lane])
    total = lanes.sum()
    for i in range(whole, left.size):
        total += np.float64(left[i]) * np.float64(right[i])
    return total


@compiled
def gram(rows: Array, based: bool, row: int, sums: Array) -> None:
    """Add inner products between models to ``sums``, float64.

    Args:
        rows: ``(R, m)``.
        based: the first row is a base.
        row: elements of one row of the tensor, dividing m, for products row by row; 0 for one product.
        sums: ``(m / row, K, K)``, or ``(1, K, K)``; the lower triangle is filled.
    """
    models = rows.shape[0] - (1 if based else 0)
    base, values = np.empty(_BLOCK, np.float32), np.empty((models, _BLOCK), np.float32)
    stretch = row if row else rows.shape[1]
    for index in range(rows.shape[1] // stretch if stretch else 0):
        end = (index + 1) * stretch
        for start in range(index * stretch, end, _BLOCK):
            stop = min(start + _BLOCK, end)
            size = stop - start
            if based:
                widen(rows[0, start:stop], base[:size])
            for model in range(models):
                _difference(rows, model, based, start, stop, base, values[model])
                for other in range(model + 1):
                    sums[index, model, other] += _dot(values[model, :size], values[other, :size])


@compiled
def histogram(rows: Array, based: bool, counts: Array) -> None:
    """Count magnitudes by the upper 15 bits of their float32, into ``(K, 32768)`` int64."""
    models = rows.shape[0] - (1 if based else 0)
    base, values = np.empty(_BLOCK, np.float32), np.empty(_BLOCK, np.float32)
    for start in range(0, rows.shape[1], _BLOCK):
        stop = min(start + _BLOCK, rows.shape[1])
        if based:
            widen(rows[0, start:stop], base[: stop - start])
        for model in range(models):
            _difference(rows, model, based, start, stop, base, values)
            bits = values.view(np.uint32)
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
    models = rows.shape[0] - (1 if based else 0)
    base, values = np.empty(_BLOCK, np.float32), np.empty(_BLOCK, np.float32)
    for start in range(0, rows.shape[1], _BLOCK):
        stop = min(start + _BLOCK, rows.shape[1])
        if based:
            widen(rows[0, start:stop], base[: stop - start])
        for model in range(models):
            _difference(rows, model, based, start, stop, base, values)
            bits = values.view(np.uint32)
            for target in range(wanted.shape[1]):
                upper = wanted[model, target]
                for i in range(stop - start):
                    if (bits[i] & _MAGNITUDE) >> _HALF == upper:
                        counts[model, target, bits[i] & _LOW] += 1


@compiled
def survival(base: Array, exact: Array, written: Array, sums: Array) -> None:
    """Add to ``sums``, ``(4,)`` float64, what a cast left of a change.

    Args:
        base: ``(m,)`` bits or float32: what the change starts from.
        exact: ``(m,)`` float32: the result before the cast.
        written: ``(m,)`` bits or float32: after it.
        sums: entries that change, entries whose change is lost, sum of squares of the change, and of the
            error that the cast makes.
    """
    start_from, after = np.empty(_BLOCK, np.float32), np.empty(_BLOCK, np.float32)
    for start in range(0, exact.size, _BLOCK):
        stop = min(start + _BLOCK, exact.size)
        widen(base[start:stop], start_from)
        widen(written[start:stop], after)
        changed = lost = 0
        for i in range(stop - start):
            moves = exact[start + i] != start_from[i]
            changed += 1 if moves else 0
            lost += 1 if moves and after[i] == start_from[i] else 0
        sums[0] += changed
        sums[1] += lost
        for i in range(stop - start):
            start_from[i] = exact[start + i] - start_from[i]
            after[i] -= exact[start + i]
        sums[2] += _dot(start_from[: stop - start], start_from[: stop - start])
        sums[3] += _dot(after[: stop - start], after[: stop - start])
