"""Pareto fronts of several losses: non-dominated sorting, crowding, hypervolume, a pick by preference.

All numbers are losses: lower is better. One point *dominates* another if no loss of it is higher and one is
lower. Sorting and crowding: K. Deb, A. Pratap, S. Agarwal and T. Meyarivan, A fast and elitist multiobjective
genetic algorithm: NSGA-II (IEEE Transactions on Evolutionary Computation 6(2), 2002), sections III.A and
III.B.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mergery.errors import RecipeError

__all__ = ["crowding_distance", "front_indices", "hypervolume", "non_dominated_sort", "pick"]

_SUM_SHARE = 0.05
"""Weight of the sum beside the maximum (rho in J. Knowles, ParEGO, 2006): of points with the same worst
loss, the one that is better in the others is taken."""


def non_dominated_sort(losses: ArrayLike) -> NDArray[np.int64]:
    """Pareto rank of every point: 0 for the front, 1 for the front of what is left without it, and so on.

    Args:
        losses: ``(points, objectives)``; infinite ones are allowed, NaN is not.

    Returns:
        ``(points,)``. Equal points have equal ranks.

    Raises:
        ValueError: if the losses are no matrix or have a NaN.
    """
    values = _matrix(losses)
    dominates = _dominates(values)
    above = dominates.sum(axis=0)
    ranks = np.full(len(values), -1, dtype=np.int64)
    rank = 0
    while (open_ := ranks < 0).any():
        front = open_ & (above == 0)
        ranks[front] = rank
        above -= dominates[front].sum(axis=0)
        rank += 1
    return ranks


def front_indices(losses: ArrayLike) -> NDArray[np.int64]:
    """Which points no other dominates, in their order; never one with an infinite loss.

    Args:
        losses: ``(points, objectives)``.

    Returns:
        ``(front,)`` indices. Of equal points, all.

    Raises:
        ValueError: if the losses are no matrix or have a NaN.
    """
    values = _matrix(losses)
    finite = np.flatnonzero(np.isfinite(values).all(axis=1))
    return finite[~_dominates(values[finite]).any(axis=0)]


def crowding_distance(losses: ArrayLike) -> NDArray[np.float64]:
    """How lonely each point of a front is: the sides of the box between its neighbours (Deb, III.B).

    Args:
        losses: ``(points, objectives)`` of one rank.

    Returns:
        ``(points,)``; infinite for the ends of every objective. An objective in which all points are equal
        counts for nothing.

    Raises:
        ValueError: if the losses are no matrix or have a NaN.
    """
    values = _matrix(losses)
    distance = np.zeros(len(values))
    for column in values.T:
        order = np.argsort(column, kind="stable")
        ordered = column[order]
        if not len(ordered) or ordered[0] == ordered[-1]:
            continue
        distance[order[[0, -1]]] = np.inf
        distance[order[1:-1]] += (ordered[2:] - ordered[:-2]) / (ordered[-1] - ordered[0])
    return distance


def hypervolume(losses: ArrayLike, reference: Sequence[float]) -> float:
    """Volume that the points dominate up to a reference point; exact, for any number of objectives.

    Two objectives take one sweep; for each further one, the volumes that each point adds to those after it
    are summed up, in one objective less (L. While, L. Bradstreet and L. Barone, A fast way of calculating
    exact hypervolumes, IEEE Transactions on Evolutionary Computation 16(1), 2012).

    Args:
        losses: ``(points, objectives)``; a point that is not below the reference everywhere adds nothing.
        reference: ``(objectives,)`` the worst losses that count.

    Raises:
        ValueError: if the losses are no matrix, have a NaN, or have other objectives than the reference.
    """
    values, corner = _matrix(losses), np.asarray(reference, dtype=np.float64)
    if corner.shape != values.shape[1:] or np.isnan(corner).any():
        raise ValueError(f"reference {reference} for losses of shape {values.shape}")
    return _volume(values[(values < corner).all(axis=1)], corner)


def pick(front: ArrayLike, preference: Sequence[float] | None = None) -> int:
    """Choose one point of a Pareto front by how much each objective matters.

    Each objective is scaled so that the front's best is 0 and its worst 1; the point whose largest weighted
    loss is smallest is taken (augmented Chebyshev distance to the ideal point: K. Miettinen, Nonlinear
    Multiobjective Optimization, 1999, section 3.4). Without a preference, that is a knee of the front: the
    point whose worst compromise is mildest.

    Args:
        front: ``(points, objectives)`` finite losses.
        preference: a weight for each objective, not negative, not all zero; only their ratios count.
            Equal ones if ``None``.

    Returns:
        Index of the point; the first of equal ones.

    Raises:
        RecipeError: if the preference does not fit the objectives.
        ValueError: if the front is empty or not finite.
    """
    values = _matrix(front)
    if not len(values) or not np.isfinite(values).all():
        raise ValueError("the front is empty, or has an infinite loss")
    weights = _weights(preference, values.shape[1])
    best, worst = values.min(axis=0), values.max(axis=0)
    scaled = (values - best) / np.where(worst > best, worst - best, 1.0)
    distance = (weights * scaled).max(axis=1) + _SUM_SHARE * (weights * scaled).sum(axis=1)
    # an objective of no weight still breaks ties, so that what is picked is never dominated
    return int(np.lexsort((scaled.sum(axis=1), distance))[0])


def _weights(preference: Sequence[float] | None, objectives: int) -> NDArray[np.float64]:
    """Weights that sum to one."""
    weights: NDArray[np.float64] = np.ones(objectives)
    if preference is not None:
        weights = np.array(preference, dtype=np.float64)
    if weights.shape != (objectives,) or not np.isfinite(weights).all() or (weights < 0).any():
        raise RecipeError(
            f"preference: {list(preference or ())} for {objectives} objectives",
            fix=f"give {objectives} numbers, each 0 or more: the larger, the more that objective matters",
        )
    if not weights.any():
        raise RecipeError("preference: all weights are 0", fix="give at least one objective a weight above 0")
    weights /= weights.sum()
    return weights


def _matrix(losses: ArrayLike) -> NDArray[np.float64]:
    values = np.asarray(losses, dtype=np.float64)
    if values.ndim != 2 or np.isnan(values).any():
        raise ValueError(f"losses must be a matrix without NaN, got shape {values.shape}")
    return values


def _dominates(values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """``(points, points)``: whether the row's point dominates the column's."""
    no_worse = np.ones((len(values), len(values)), dtype=np.bool_)
    better = np.zeros_like(no_worse)
    for column in values.T:
        no_worse &= column[:, None] <= column
        better |= column[:, None] < column
    return no_worse & better


def _volume(points: NDArray[np.float64], corner: NDArray[np.float64]) -> float:
    """Hypervolume of points that all lie below the corner."""
    if not len(points):
        return 0.0
    if len(corner) == 1:
        return float(corner[0] - points.min())
    if len(corner) == 2:
        return _area(points, corner)
    # the best in the last objective comes last: what comes after a point reaches at least as far there, so
    # what the point adds is a prism of that height over what it adds in the other objectives
    points = points[np.argsort(-points[:, -1], kind="stable")]
    heights, bases, base_corner = corner[-1] - points[:, -1], points[:, :-1], corner[:-1]
    total = 0.0
    for place, (height, base) in enumerate(zip(heights, bases, strict=True)):
        shared = np.maximum(bases[place + 1 :], base)
        if len(corner) > 3:
            shared = shared[~_dominates(shared).any(axis=0)]
        total += float(height) * (float(np.prod(base_corner - base)) - _volume(shared, base_corner))
    return total


def _area(points: NDArray[np.float64], corner: NDArray[np.float64]) -> float:
    """Dominated area: strips between falling steps, from the best in the first objective on."""
    first, second = points[np.lexsort((points[:, 1], points[:, 0]))].T
    steps = np.minimum.accumulate(np.concatenate(([corner[1]], second)))
    return float(np.sum((corner[0] - first) * (steps[:-1] - steps[1:])))
