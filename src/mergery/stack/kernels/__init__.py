"""The loops that touch every element, compiled for the processor by numba.

Shapes: ``rows`` is ``(R, m)``, R operands of m elements each, either uint16 (the bits of bfloat16) or
float32. With ``based`` the first row is the base and the others are read as differences from it, so that
K = R - 1 models remain; else K = R. All loops run over blocks that stay in the first-level cache.

Multiplications and additions are rounded one by one and sums run in a fixed order, so the bits depend on
neither threads nor the length of what is passed. Every function releases the interpreter's lock.
"""

from mergery.stack.kernels.bits import differences, largest_bits, narrow, widen
from mergery.stack.kernels.combine import combine
from mergery.stack.kernels.count import histogram, refine, sift
from mergery.stack.kernels.drop import uniform
from mergery.stack.kernels.reduce import gram, magnitudes, survival

__all__ = [
    "combine",
    "differences",
    "gram",
    "histogram",
    "largest_bits",
    "magnitudes",
    "narrow",
    "refine",
    "sift",
    "survival",
    "uniform",
    "widen",
]
