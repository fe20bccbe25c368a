"""How sure a score is: Wilson's interval for proportions, bootstrap for means and differences."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["Interval", "bootstrap_mean", "paired_bootstrap", "wilson"]

Z_95 = 1.959963984540054
"""The standard normal distribution's 97.5 % quantile."""

_CHUNK = 1 << 22
"""Resampled values held at once."""


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval."""

    estimate: float
    low: float
    high: float


def wilson(successes: int, trials: int, *, z: float = Z_95) -> Interval:
    """Wilson's score interval of a proportion: right for few trials and near 0 and 1, too.

    ``(p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n)`` with p = successes / n (E. B. Wilson, Probable
    inference, the law of succession, and statistical inference, JASA 22, 1927, 209-212).

    Args:
        successes: how many of the trials, 0 to ``trials``.
        trials: n, at least 1.
        z: normal quantile; 1.96 gives 95 %.
    """
    if not 0 <= successes <= trials or trials < 1:
        raise ValueError(f"{successes} successes of {trials} trials")
    share = successes / trials
    spread = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    centre, scale = share + z * z / (2 * trials), 1 + z * z / trials
    low = 0.0 if successes == 0 else (centre - spread) / scale
    high = 1.0 if successes == trials else (centre + spread) / scale
    return Interval(share, low, high)


def bootstrap_mean(values: ArrayLike, *, resamples: int = 10_000, seed: int = 0) -> Interval:
    """Percentile bootstrap of a mean (Efron, 1979): 95 % interval over resampled items.

    Args:
        values: ``(n,)`` one number per item, finite.
        resamples: how often the items are drawn anew.
        seed: of the draws; the same seed gives the same interval.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array):
        raise ValueError(f"expected one number per item, got shape {array.shape}")
    generator = np.random.default_rng(seed)
    step = max(1, _CHUNK // len(array))
    means: list[NDArray[np.float64]] = []
    for first in range(0, resamples, step):
        count = min(step, resamples - first)
        means.append(array[generator.integers(0, len(array), (count, len(array)))].mean(axis=1))
    low, high = np.quantile(np.concatenate(means), [0.025, 0.975])
    return Interval(float(array.mean()), float(low), float(high))


def paired_bootstrap(
    first: ArrayLike, second: ArrayLike, *, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Difference of two models' means on the same items, resampling items, never models.

    Args:
        first: ``(n,)`` one model's outcomes.
        second: ``(n,)`` the other's, in the same item order.
        resamples: how often the items are drawn anew.
        seed: of the draws.

    Returns:
        Mean of ``first`` minus mean of ``second``; the models differ if the interval excludes 0.
    """
    one, other = np.asarray(first, dtype=np.float64), np.asarray(second, dtype=np.float64)
    if one.shape != other.shape:
        raise ValueError(f"outcomes on different items: {one.shape} and {other.shape}")
    return bootstrap_mean(one - other, resamples=resamples, seed=seed)
