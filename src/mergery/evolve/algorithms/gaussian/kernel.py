"""Matérn 5/2 kernel with a lengthscale for every dimension, and the posterior density of its parameters.

Rasmussen and Williams, Gaussian Processes for Machine Learning, 2006: eq. 4.17 (the kernel), 2.30 (the
likelihood), 5.9 (its gradient).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import blas, lapack

__all__ = [
    "Data",
    "Parameters",
    "Prior",
    "covariance",
    "factor",
    "matern",
    "negative_log_posterior",
    "squared_distance",
]

Array = NDArray[np.float64]

_ROOT5 = math.sqrt(5)


@dataclass(frozen=True, eq=False)
class Parameters:
    """What a kernel is set to.

    Attributes:
        scales: ``(g,)`` lengthscales.
        signal: variance of the function around its mean.
        noise: variance of an observation around the function, beside what is known of each.
    """

    scales: Array
    signal: float
    noise: float

    @classmethod
    def of(cls, theta: Array) -> Parameters:
        """From the logarithms: lengthscales, signal, noise."""
        values = np.exp(theta)
        return cls(values[:-2], float(values[-2]), float(values[-1]))


@dataclass(frozen=True, eq=False)
class Data:
    """What a kernel is fitted to.

    Attributes:
        features: ``(n, f)`` of the points.
        groups: ``(f,)`` which lengthscale each feature has.
        targets: ``(n,)`` observations.
        variances: ``(n,)`` known part of each observation's noise.
        offset: variance of the constant mean, which is integrated out.
    """

    features: Array
    groups: NDArray[np.int64]
    targets: Array
    variances: Array
    offset: float


@dataclass(frozen=True, eq=False)
class Prior:
    """Independent normal priors of the parameters' logarithms.

    Attributes:
        mean: ``(g + 2,)`` of lengthscales, signal, noise.
        deviation: ``(g + 2,)``.
        bounds: ``(g + 2, 2)`` where the parameters are looked for.
    """

    mean: Array
    deviation: Array
    bounds: Array


def squared_distance(one: Array, other: Array) -> Array:
    """``(n, m)`` squared Euclidean distances between the rows of ``(n, f)`` and ``(m, f)``."""
    total = one @ other.T
    total *= -2.0
    total += (one * one).sum(1)[:, None]
    total += (other * other).sum(1)
    return np.maximum(total, 0.0, out=total)


def matern(square: Array, signal: float) -> tuple[Array, Array]:
    """Matérn 5/2 at squared distances, and minus twice its derivative by them; overwrites the distances.

    With r the distance: σ² (1 + √5 r + 5/3 r²) e^(-√5 r), and 5/3 σ² (1 + √5 r) e^(-√5 r).
    """
    root = np.sqrt(square)
    root *= -_ROOT5
    slope = np.exp(root)
    slope *= signal
    np.subtract(1.0, root, out=root)
    square *= 5 / 3
    square += root
    square *= slope
    slope *= root
    slope *= 5 / 3
    return square, slope


def covariance(one: Array, other: Array, signal: float) -> Array:
    """``(n, m)`` Matérn 5/2 between rows of features, each already over its lengthscale."""
    return matern(squared_distance(one, other), signal)[0]


def factor(matrix: Array) -> Array | None:
    """Lower Cholesky factor of a symmetric matrix; None where rounding has made it indefinite.

    The matrix is overwritten.
    """
    # its transpose is what LAPACK calls column order: no copy is made
    lower, failed = lapack.dpotrf(matrix.T, lower=1, clean=1, overwrite_a=1)
    return None if failed else lower


def negative_log_posterior(theta: Array, data: Data, prior: Prior) -> tuple[float, Array]:
    """Minus the log posterior density of a kernel's parameters, up to a constant, and its gradient.

    Args:
        theta: ``(g + 2,)`` logarithms of lengthscales, signal and noise.
        data: what was observed.
        prior: of theta.

    Returns:
        The value and its ``(g + 2,)`` gradient; a huge value and no gradient where rounding spoils it.
    """
    parameters = Parameters.of(theta)
    scaled = data.features / parameters.scales[data.groups]
    square = squared_distance(scaled, scaled)
    np.fill_diagonal(square, 0.0)
    signal, slope = matern(square, parameters.signal)
    total = signal + data.offset
    total.flat[:: len(total) + 1] += parameters.noise + data.variances
    lower = factor(total)
    if lower is None:
        return 1e25, np.zeros_like(theta)
    value = float(np.log(lower.diagonal()).sum())
    weights = lapack.dpotrs(lower, data.targets, lower=1)[0]
    # R&W 5.9: the derivative by a parameter is ½ tr[(K⁻¹ - αα^T) ∂K/∂θ]. Of symmetric matrices the lower
    # half is enough; what lies above is 0. Transposed, it is in numpy's order.
    inverse = lapack.dpotri(lower, lower=1, overwrite_c=1)[0]
    residual = blas.dsyr(-1.0, weights, lower=1, a=inverse, overwrite_a=1).T
    diagonal = residual.diagonal().copy()
    by_signal = np.vdot(residual, signal) - 0.5 * parameters.signal * diagonal.sum()
    slope *= residual
    # Σ_{i<j} V_ij (x_i - x_j)² for each feature, without a tensor of all pairs and features
    np.fill_diagonal(slope, 0.0)
    by_feature = (slope.sum(0) + slope.sum(1)) @ scaled**2 - 2 * ((slope @ scaled) * scaled).sum(0)
    gradient = np.empty_like(theta)
    gradient[:-2] = np.bincount(data.groups, by_feature, minlength=len(theta) - 2)
    gradient[-2:] = by_signal, 0.5 * parameters.noise * diagonal.sum()
    distance = (theta - prior.mean) / prior.deviation
    value += 0.5 * float(data.targets @ weights) + 0.5 * float(distance @ distance)
    return value, gradient + distance / prior.deviation
