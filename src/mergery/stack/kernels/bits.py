"""Elements as they are stored: bits of bfloat16, or float32."""

from __future__ import annotations

from typing import Any

import numpy as np

from mergery.stack.kernels.compiled import Array, compiled

__all__ = ["difference", "differences", "largest_bits", "narrow", "widen"]

_HALF = np.uint32(16)
_MAGNITUDE = np.uint32(0x7FFFFFFF)


@compiled
def widen(bits: Array, out: Array) -> None:
    """bfloat16 bits or float32 ``(m,)`` to float32, into the first m of ``out``."""
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
def difference(rows: Array, model: int, based: bool, start: int, stop: int, base: Array, out: Array) -> None:
    """One model's block as float32, into ``out``: the difference from ``base`` if there is one."""
    widen(rows[model + (1 if based else 0), start:stop], out)
    if based:
        for i in range(stop - start):
            out[i] -= base[i]


@compiled
def differences(rows: Array, based: bool, base: Array, values: Array) -> None:
    """Widen all rows: the base to ``(m,)``, the models (their differences from it) to ``(K, m)``."""
    if based:
        widen(rows[0], base)
    for model in range(values.shape[0]):
        difference(rows, model, based, 0, rows.shape[1], base, values[model])
