"""The weighted sum, with or without a vote, in one loop."""

from __future__ import annotations

from typing import Any

import numpy as np

from mergery.stack.kernels.bits import difference, widen
from mergery.stack.kernels.compiled import BLOCK, Array, compiled
from mergery.stack.kernels.drop import sparsify, workspace

__all__ = ["combine"]


@compiled
def _add(values: Array, weight: Any, total: Array, begin: bool) -> None:
    if begin:
        for i in range(values.size):
            total[i] = values[i] * weight
    else:
        for i in range(values.size):
            total[i] += values[i] * weight


@compiled
def _agree(
    values: Array, model: int, weight: Any, share: Any, majority: Array, total: Array, divisor: Array
) -> None:
    """Add a model's weighted entries whose sign is that of the majority, and its share where they are."""
    for i in range(total.size):
        change = values[model, i] * weight
        positive = majority[i] >= 0
        agrees = (change > 0) if positive else (change < 0)
        total[i] += change if agrees else np.float32(0)
        divisor[i] += share if agrees else np.float32(0)


@compiled
def _finish(merged: Array, base: Array, based: bool, divisor: Any, factor: Any, out: Array) -> None:
    """Divide, scale, and add to the base."""
    if divisor != 1:
        for i in range(out.size):
            merged[i] /= divisor
    if factor != 1:
        for i in range(out.size):
            merged[i] *= factor
    if based:
        for i in range(out.size):
            out[i] = base[i] + merged[i]
    else:
        out[:] = merged


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
        sparse: settings, streams and inverse of :func:`~mergery.stack.kernels.drop.sparsify`.
        mode: drops (bool: anything is sparsified), elect (bool), divide (bool: by the shares that agree),
            divisor, factor (float32).
        out: result.
    """
    drops, elect, divide, divisor, factor = mode
    models = rows.shape[0] - (1 if based else 0)
    block = row if row else BLOCK
    settings, streams, inverse = sparse
    numbers, sorting, counts = workspace(block, row > 0)
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
            widen(rows[0, start:stop], base)
        summed = majority[:size]
        for model in range(models):
            held = values[model if elect else 0, :size]
            difference(rows, model, based, start, stop, base, held)
            if drops:
                sparsify(held, model, first + start, settings, streams, inverse, numbers, sorting, counts)
            _add(held, weight[model], summed, model == 0)
        merged = summed
        if elect:
            merged = total[:size]
            merged[:] = 0
            shares[:] = 0
            for model in range(models):
                _agree(values, model, weight[model], share[model], summed, merged, shares)
            if divide:
                for i in range(size):
                    merged[i] = merged[i] / shares[i] if shares[i] != 0 else merged[i]
        _finish(merged, base, based, divisor, factor, out[start:stop])
