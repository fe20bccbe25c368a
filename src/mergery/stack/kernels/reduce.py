"""Sums and inner products."""

from __future__ import annotations

from typing import Any

import numpy as np

from mergery.stack.kernels.bits import difference, widen
from mergery.stack.kernels.compiled import BLOCK, Array, compiled
from mergery.stack.kernels.drop import sparsify, workspace

__all__ = ["gram", "magnitudes", "survival"]

_LANES = 64  # partial sums: fewer are unrolled and then not vectorised; their number fixes the last bits
_STRETCH = 4 * _LANES


@compiled
def magnitudes(rows: Array, based: bool, first: int, row: int, sparse: Any, sums: Array) -> None:
    """Add each model's sums of magnitudes before and after sparsifying to ``sums``, ``(K, 2)`` float64."""
    models = rows.shape[0] - (1 if based else 0)
    block = row if row else BLOCK
    settings, streams, inverse = sparse
    numbers, sorting, counts = workspace(block, row > 0)
    base, values = np.empty(block, np.float32), np.empty(block, np.float32)
    lanes = np.empty(_LANES, np.float64)
    for start in range(0, rows.shape[1], block):
        stop = min(start + block, rows.shape[1])
        size = stop - start
        if based:
            widen(rows[0, start:stop], base)
        for model in range(models):
            difference(rows, model, based, start, stop, base, values)
            sums[model, 0] += _total(values[:size], lanes)
            held = values[:size]
            sparsify(held, model, first + start, settings, streams, inverse, numbers, sorting, counts)
            sums[model, 1] += _total(values[:size], lanes)


@compiled
def _total(values: Array, lanes: Array) -> Any:
    """Sum of magnitudes, in float64."""
    lanes[:] = 0
    whole = values.size // _LANES * _LANES
    for start in range(0, whole, _LANES):
        for lane in range(_LANES):
            lanes[lane] += abs(np.float64(values[start + lane]))
    for i in range(whole, values.size):
        lanes[i - whole] += abs(np.float64(values[i]))
    return _folded(lanes)


@compiled
def _dot(left: Array, right: Array, lanes: Array) -> Any:
    """Inner product, in float64."""
    lanes[:] = 0
    whole = left.size // _STRETCH * _STRETCH
    for start in range(0, whole, _STRETCH):
        for lane in range(_LANES):
            i = start + lane
            total = lanes[lane]
            for _ in range(_STRETCH // _LANES):  # to fetch and store each partial sum less often
                total += np.float64(left[i]) * np.float64(right[i])
                i += _LANES
            lanes[lane] = total
    for i in range(whole, left.size):
        lanes[i % _LANES] += np.float64(left[i]) * np.float64(right[i])
    return _folded(lanes)


@compiled
def _folded(lanes: Array) -> Any:
    """The sum of all partial sums, halves added to each other."""
    half = lanes.size // 2
    while half:
        for lane in range(half):
            lanes[lane] += lanes[lane + half]
        half //= 2
    return lanes[0]


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
    base, values = np.empty(BLOCK, np.float32), np.empty((models, BLOCK), np.float32)
    lanes = np.empty(_LANES, np.float64)
    stretch = row if row else rows.shape[1]
    for index in range(rows.shape[1] // stretch if stretch else 0):
        end = (index + 1) * stretch
        for start in range(index * stretch, end, BLOCK):
            stop = min(start + BLOCK, end)
            size = stop - start
            if based:
                widen(rows[0, start:stop], base)
            for model in range(models):
                difference(rows, model, based, start, stop, base, values[model])
                for other in range(model + 1):
                    sums[index, model, other] += _dot(values[model, :size], values[other, :size], lanes)


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
    before, after = np.empty(BLOCK, np.float32), np.empty(BLOCK, np.float32)
    lanes = np.empty(_LANES, np.float64)
    for start in range(0, exact.size, BLOCK):
        stop = min(start + BLOCK, exact.size)
        size, merged = stop - start, exact[start:stop]
        widen(base[start:stop], before)
        widen(written[start:stop], after)
        changed, lost = np.int32(0), np.int32(0)  # as wide as what is compared, to fit into the same vectors
        for i in range(size):
            was, now, wanted = before[i], after[i], merged[i]
            changed += np.int32(wanted != was)
            lost += np.int32((wanted != was) & (now == was))
            before[i] = wanted - was
            after[i] = now - wanted
        sums[0] += changed
        sums[1] += lost
        sums[2] += _dot(before[:size], before[:size], lanes)
        sums[3] += _dot(after[:size], after[:size], lanes)
