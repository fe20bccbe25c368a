"""A Gaussian process of losses over the unit cube: what a search believes after its trials.

Matérn 5/2 with a lengthscale for every dimension, around a constant mean that is integrated out. Lengthscales
are expected to grow with √d, as distances in the cube do (Hvarfner, Hellsten and Nardi, Vanilla Bayesian
optimization performs great in high dimensions, ICML 2024). Parameters are those of highest posterior density.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack
from scipy.optimize import minimize

from mergery.evolve.algorithms.gaussian.features import Features
from mergery.evolve.algorithms.gaussian.kernel import (
    Data,
    Parameters,
    Prior,
    covariance,
    factor,
    matern,
    negative_log_posterior,
    squared_distance,
)
from mergery.evolve.algorithms.gaussian.warp import Warp

__all__ = ["Belief", "Surrogate"]

Array = NDArray[np.float64]

_OFFSET = 1.0
"""Variance of the constant mean, in units of the warp."""

_LENGTH, _SIGNAL, _NOISE = (0.4, 0.8), (1.0, 1.0), (1e-3, 2.0)
"""Medians, and standard deviations of the logarithms, of the prior; lengthscales are in units of √d."""

_LENGTHS, _SIGNALS, _NOISES = (0.02, 50.0), (0.02, 100.0), (1e-6, 1.0)
"""Where they are looked for."""

_AFRESH = 1.1
"""Growth of the number of trials after which a better fit is looked for far from the present one, too."""

_LEAST_VARIANCE = 1e-12


@dataclass(frozen=True, eq=False)
class Belief:
    """The function at some points, and how that changes as they move.

    Attributes:
        mean: ``(m,)``.
        deviation: ``(m,)`` standard deviation, without an observation's noise.
        mean_slope: ``(m, d)`` derivative of each point's mean by its coordinates; 0 for choices.
        deviation_slope: ``(m, d)`` that of the deviation.
    """

    mean: Array
    deviation: Array
    mean_slope: Array
    deviation_slope: Array


class Surrogate:
    """A model of losses that is fitted to trials and asked about other points.

    It speaks in units of its :class:`Warp`, in which lower is better as in losses.

    Args:
        choices: for every dimension the number of its values, 0 for a real one.

    Attributes:
        features: how points enter the kernel.
        points: ``(n, d)`` that it knows.
        targets: ``(n,)`` their losses, warped.
        warp: of the losses that it was fitted to.
        parameters: of its kernel.
    """

    points: Array
    targets: Array
    warp: Warp
    parameters: Parameters

    def __init__(self, choices: Sequence[int]) -> None:
        self.features = Features(choices)
        self._prior = _prior(len(choices), self.features.scales)
        self._theta = self._prior.mean
        self._afresh = 0

    def fit(
        self,
        points: Array,
        losses: Array,
        errors: Array | None = None,
        *,
        warp: Warp | None = None,
        tune: bool = True,
    ) -> None:
        """Learn from trials, all of them at once.

        Args:
            points: ``(n, d)``, at least one.
            losses: ``(n,)``; infinite for a failure.
            errors: ``(n,)`` the known part of each loss's standard error.
            warp: of the losses; one that suits them by default.
            tune: whether to look for better parameters, beginning at the present ones.
        """
        self.warp = warp or Warp.of(points, losses)
        self.points = points
        self.targets = self.warp(losses)
        self._variances = np.zeros(len(losses))
        if errors is not None:
            self._variances = (errors * self.warp.slope(losses)) ** 2
        if tune:
            self._tune()
        self._condition()

    def predict(self, points: Array) -> tuple[Array, Array]:
        """Mean and standard deviation, ``(m,)`` each, of the function at ``(m, d)`` points."""
        scaled = self.features.encode(points) * self._inverse_scales
        cross = covariance(scaled, self._scaled, self.parameters.signal) + _OFFSET
        return self._posterior(cross)[:2]

    def believe(self, points: Array) -> Belief:
        """What :meth:`predict` says of ``(m, d)`` points, and its derivatives."""
        scaled = self.features.encode(points) * self._inverse_scales
        cross, slope = matern(squared_distance(scaled, self._scaled), self.parameters.signal)
        mean, deviation, white = self._posterior(cross + _OFFSET)
        # ∂k/∂x is minus the slope times (x - x') / ℓ²; summed over x' it is two products of matrices
        count = points.shape[1]
        moving = self._inverse_scales[:count] * self.features.real

        def total(weights: Array) -> Array:
            away = weights.sum(1)[:, None] * scaled - weights @ self._scaled
            return np.asarray(-moving * away[:, :count])

        by_mean = total(slope * self._weights)
        by_deviation = -total(slope * (white @ self._whiten)) / deviation[:, None]
        return Belief(mean, deviation, by_mean, by_deviation)

    def imagine(self, points: Array) -> Surrogate:
        """The model that it would be, had the trials at ``(m, d)`` points come out as it expects.

        Ginsbourger, Le Riche and Carraro, Kriging is well-suited to parallelize optimization, 2010 ("Kriging
        believer").
        """
        other = copy.copy(self)
        other.points = np.concatenate([self.points, points])
        other.targets = np.concatenate([self.targets, self.predict(points)[0]])
        other._variances = np.concatenate([self._variances, np.zeros(len(points))])
        other._condition()
        return other

    def doubting(self, share: float) -> Surrogate:
        """A model of the same trials whose lengthscales are only a share of the fitted ones.

        Fitted to points that a search has gathered where it liked them, they are apt to be too long, and the
        search then stays there (Berkenkamp, Schoellig and Krause, No-regret Bayesian optimization with
        unknown hyperparameters, JMLR 20, 2019).
        """
        other = copy.copy(self)
        other._theta = np.append(self._theta[:-2] + math.log(share), self._theta[-2:])
        other._condition()
        return other

    def _tune(self) -> None:
        """Look for the parameters of highest density from the present ones, now and then from the prior's."""
        starts = [self._theta]
        if len(self.points) >= _AFRESH * self._afresh:
            starts.append(self._prior.mean)
            self._afresh = len(self.points)
        data = Data(
            self.features.encode(self.points),
            self.features.groups,
            self.targets,
            self._variances,
            _OFFSET,
        )
        found = [
            minimize(
                negative_log_posterior,
                start,
                (data, self._prior),
                method="L-BFGS-B",
                jac=True,
                bounds=self._prior.bounds,
                options={"maxiter": 50, "ftol": 1e-6, "gtol": 1e-3},
            )
            for start in starts
        ]
        self._theta = min(found, key=lambda result: float(result.fun)).x

    def _condition(self) -> None:
        """Prepare what predictions need."""
        self.parameters = kernel = Parameters.of(self._theta)
        self._inverse_scales = 1 / kernel.scales[self.features.groups]
        self._scaled = self.features.encode(self.points) * self._inverse_scales
        total = covariance(self._scaled, self._scaled, kernel.signal) + _OFFSET
        total.flat[:: len(total) + 1] = kernel.signal + _OFFSET + kernel.noise + self._variances
        lower = factor(total)
        assert lower is not None, "noise of at least 1e-6 of a signal of at most 100 keeps it definite"
        self._whiten = np.asarray(lapack.dtrtri(lower, lower=1)[0])
        self._weights = self._whiten.T @ (self._whiten @ self.targets)

    def _posterior(self, cross: Array) -> tuple[Array, Array, Array]:
        """Mean, deviation and whitened covariance, from ``(m, n)`` covariances (R&W eqs. 2.25, 2.26)."""
        white = cross @ self._whiten.T
        variance = self.parameters.signal + _OFFSET - np.einsum("ij,ij->i", white, white)
        return cross @ self._weights, np.sqrt(np.maximum(variance, _LEAST_VARIANCE)), white


def _prior(dimensions: int, scales: int) -> Prior:
    length, deviation = _LENGTH
    rows = [(length * math.sqrt(dimensions), deviation, *_LENGTHS)] * scales
    rows += [(*_SIGNAL, *_SIGNALS), (*_NOISE, *_NOISES)]
    median, spread, low, high = np.array(rows).T
    return Prior(np.log(median), spread, np.log(np.stack([low, high], axis=1)))
