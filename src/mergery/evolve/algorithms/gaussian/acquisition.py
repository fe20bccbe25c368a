"""What a trial at a point is hoped to gain, as a logarithm, with its gradient.

Logarithms, since far from the best points the expected improvement underflows and its gradient vanishes,
while its logarithm still says where to go (Ament et al., Unexpected improvements to expected improvement for
Bayesian optimization, NeurIPS 2023).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfcx, log_ndtr, logsumexp, ndtr

from mergery.evolve.algorithms.gaussian.boxes import free_boxes
from mergery.evolve.algorithms.gaussian.model import Surrogate
from mergery.evolve.algorithms.gaussian.spread import spread
from mergery.evolve.algorithms.pareto import front_indices

__all__ = ["Acquisition", "ExpectedHypervolume", "ExpectedImprovement", "log_improvement"]

Array = NDArray[np.float64]

_LOG_ROOT_2PI = 0.5 * math.log(2 * math.pi)
_FAR = 1e3
_FRONT = {2: 200, 3: 40, 4: 12}


class Acquisition(Protocol):
    """Something to be as large as possible."""

    def value(self, points: Array) -> Array:
        """``(m,)`` values at ``(m, d)`` points."""
        ...

    def gradient(self, points: Array) -> tuple[Array, Array]:
        """``(m,)`` values and ``(m, d)`` gradients, 0 for choices."""
        ...


class ExpectedImprovement:
    """How far below the best mean the mean at a point is expected to be after a trial there.

    Without noise it is the expected improvement. With noise, the best is the lowest posterior mean, not the
    luckiest observation, and what counts is by how much a noisy trial can change the mean: its deviation then
    is s²/√(s² + noise) (Picheny, Ginsbourger, Richet and Caplin, Technometrics 55, 2013, at the median). So
    a point that is known as well as the noise allows is not tried over and over.

    Args:
        surrogate: a fitted model.
    """

    def __init__(self, surrogate: Surrogate) -> None:
        self._surrogate = surrogate
        self._best = float(surrogate.predict(surrogate.points)[0].min())

    def value(self, points: Array) -> Array:
        """``(m,)`` logarithms of the expected improvement at ``(m, d)`` points."""
        mean, deviation = self._surrogate.predict(points)
        change, _ = _change(deviation, self._surrogate.parameters.noise)
        return log_improvement(self._best, mean, change)

    def gradient(self, points: Array) -> tuple[Array, Array]:
        """``(m,)`` values and ``(m, d)`` gradients, 0 for choices."""
        belief = self._surrogate.believe(points)
        change, slope = _change(belief.deviation, self._surrogate.parameters.noise)
        value = log_improvement(self._best, belief.mean, change)
        by_mean, by_change = _improvement_slopes(self._best, belief.mean, change, value)
        by_deviation = by_change * slope
        return value, by_mean[:, None] * belief.mean_slope + by_deviation[:, None] * belief.deviation_slope


class ExpectedHypervolume:
    """By how much a trial is expected to enlarge the volume that the front dominates.

    Exact for independent models: over disjoint boxes [l, u) of what is not dominated, the sum of the products
    over the losses of E(u - Y)⁺ - E(l - Y)⁺ (Yang, Emmerich, Deutz and Bäck, J. Glob. Optim. 75, 2019). Front
    and deviations are those of posterior means, as in :class:`ExpectedImprovement`.

    Args:
        surrogates: a fitted model for every loss, all of the same points.

    Attributes:
        front: ``(p, d)`` points whose means are on the front.
    """

    def __init__(self, surrogates: Sequence[Surrogate]) -> None:
        self._surrogates = surrogates
        means = np.stack([model.predict(model.points)[0] for model in surrogates], axis=1)
        optimal = front_indices(means)
        means, self.front = means[optimal], surrogates[0].points[optimal]
        # the worst trial rather than the front's nadir: a front of few points would otherwise not be widened.
        # How bad that is, the models' warp has limited
        worst = np.stack([model.targets for model in surrogates], axis=1).max(0)
        depth = worst - means.min(0)
        reference = worst + np.where(depth > 0, 0.1 * depth, 1.0)
        means = means[spread(means, _FRONT.get(len(surrogates), 6))]
        self._lower, self._upper = free_boxes(means, reference)

    def value(self, points: Array) -> Array:
        """``(m,)`` logarithms of the expected gain at ``(m, d)`` points."""
        total: Array | float = 0.0
        for place, model in enumerate(self._surrogates):
            mean, deviation = model.predict(points)
            change, _ = _change(deviation, model.parameters.noise)
            total = total + _log_edge(self._lower[:, place], self._upper[:, place], mean, change)[0]
        return np.asarray(logsumexp(total, axis=1))

    def gradient(self, points: Array) -> tuple[Array, Array]:
        """``(m,)`` values and ``(m, d)`` gradients, 0 for choices."""
        total: Array | float = 0.0
        parts = []
        for place, model in enumerate(self._surrogates):
            belief = model.believe(points)
            change, slope = _change(belief.deviation, model.parameters.noise)
            edge, by_mean, by_change = _log_edge(
                self._lower[:, place], self._upper[:, place], belief.mean, change
            )
            total = total + edge
            parts.append((belief, by_mean, by_change * slope[:, None]))
        value = np.asarray(logsumexp(total, axis=1))
        share = np.exp(total - value[:, None])
        gradient = np.zeros_like(points)
        for belief, by_mean, by_deviation in parts:
            gradient += (share * by_mean).sum(1)[:, None] * belief.mean_slope
            gradient += (share * by_deviation).sum(1)[:, None] * belief.deviation_slope
        return value, gradient


def log_improvement(best: Array | float, mean: Array, deviation: Array) -> Array:
    """Logarithm of E(best - Y)⁺ of a normal Y, elementwise; exact far into the tail (Ament et al., eq. 9)."""
    z = (best - mean) / deviation
    result = np.empty_like(z)
    near, far = z > -1, z < -_FAR
    inner = z[near]
    result[near] = np.log(np.exp(-0.5 * inner**2 - _LOG_ROOT_2PI) + inner * ndtr(inner))
    between = ~(near | far)
    inner = -z[between]
    # φ(z) + zΦ(z) = φ(z) (1 - |z| R(|z|)), with Mills' ratio R
    mills = math.sqrt(math.pi / 2) * erfcx(inner / math.sqrt(2))
    result[between] = -0.5 * inner**2 - _LOG_ROOT_2PI + np.log1p(-inner * mills)
    # there 1 - |z| R(|z|) cancels; it is 1/z² - 3/z⁴ + …
    inner = z[far]
    result[far] = -0.5 * inner**2 - _LOG_ROOT_2PI - 2 * np.log(-inner) - 3 / inner**2
    return np.asarray(result + np.log(deviation))


def _change(deviation: Array, noise: float) -> tuple[Array, Array]:
    """Deviation of what the mean will be after a trial with this noise, and its derivative."""
    total = deviation**2 + noise
    return deviation**2 / np.sqrt(total), deviation * (deviation**2 + 2 * noise) / total**1.5


def _improvement_slopes(
    best: Array | float, mean: Array, deviation: Array, log_value: Array
) -> tuple[Array, Array]:
    """Derivatives of E(best - Y)⁺ by mean and deviation, -Φ(z) and φ(z), over the exponential of a value."""
    z = (best - mean) / deviation
    return -np.exp(log_ndtr(z) - log_value), np.exp(-0.5 * z**2 - _LOG_ROOT_2PI - log_value)


def _log_edge(lower: Array, upper: Array, mean: Array, deviation: Array) -> tuple[Array, Array, Array]:
    """Log of E(u - Y)⁺ - E(l - Y)⁺ for m normal Y and b intervals, ``(m, b)``; slopes by mean, deviation."""
    mean, deviation = mean[:, None], deviation[:, None]
    above = log_improvement(upper, mean, deviation)
    closed = np.flatnonzero(~np.isneginf(lower))
    below = log_improvement(lower[closed], mean, deviation)
    edge = above.copy()
    # where an interval is too thin for the difference, it is as if it had the thickness that rounding leaves
    edge[:, closed] += np.log(-np.expm1(np.minimum(below - above[:, closed], -1e-15)))
    by_mean, by_deviation = _improvement_slopes(upper, mean, deviation, edge)
    less_mean, less_deviation = _improvement_slopes(lower[closed], mean, deviation, edge[:, closed])
    by_mean[:, closed] -= less_mean
    by_deviation[:, closed] -= less_deviation
    return edge, by_mean, by_deviation
