"""Interpolation along great circles.

The result is a linear combination of the models whose coefficients depend only on their inner products,
so one pass over the tensors for the Gram matrix and one for the sum suffice.
"""

from __future__ import annotations

import math

from mergery.methods.api import Fraction, merge_method
from mergery.stack import Merged, Weights

__all__ = ["slerp"]

_NEARLY_PARALLEL = 0.9995
_SMALLEST_NORM = 1e-8


@merge_method("slerp", paper="Shoemake 1985, doi:10.1145/325165.325242", base="first", models=(2, 2))
def slerp(weights: Weights, *, t: Fraction) -> Merged:
    """Interpolate between the base and one other model along the great circle (SLERP).

    ``sin((1-t) w)/sin(w) theta_0 + sin(t w)/sin(w) theta_1``, where w is the angle between the two
    tensors as vectors. Departs from Shoemake, as the tools in use do: the vectors are not normalised,
    only the angle is measured between their directions, and nearly parallel ones
    (``|cos w| > 0.9995``) are interpolated linearly.

    Args:
        weights: two models, the base first.
        t: 0 gives the base, 1 the other model.
    """
    gram = weights.gram
    norms = [math.sqrt(square) for square in gram.diagonal()]
    cosine = float(gram[0, 1]) / math.prod(max(norm, _SMALLEST_NORM) for norm in norms)
    if abs(cosine) > _NEARLY_PARALLEL:
        return weights.weighted_sum((1.0 - t, t))
    angle = math.acos(cosine)
    return weights.weighted_sum(
        (math.sin((1.0 - t) * angle) / math.sin(angle), math.sin(t * angle) / math.sin(angle))
    )
