"""Where a trial is hoped to gain most."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from mergery.evolve.algorithms.gaussian.acquisition import (
    Acquisition,
    ExpectedHypervolume,
    ExpectedImprovement,
)
from mergery.evolve.algorithms.gaussian.features import Features
from mergery.evolve.algorithms.gaussian.model import Surrogate
from mergery.evolve.algorithms.gaussian.spread import spread

__all__ = ["maximise", "propose"]

Array = NDArray[np.float64]

_ANCHORS = 5
_EVERYWHERE, _EACH = 1000, 20
_STEPS = (0.1, 0.03, 0.01)
_MOVED = 10
_CLIMBS = 4
_SAME = 1e-6


def propose(
    surrogates: Sequence[Surrogate],
    generator: np.random.Generator,
    *,
    pending: Array | None = None,
    box: tuple[Array, Array] | None = None,
) -> Array:
    """The next point to try: of most expected improvement, or hypervolume if there are several losses.

    Args:
        surrogates: a fitted model for every loss.
        generator: of the candidates.
        pending: ``(p, d)`` points that are being tried; they are taken to come out as expected.
        box: ``(d,)`` lowest and highest coordinates, a trust region; the whole cube by default.

    Returns:
        ``(d,)``. It is none of the known and pending points, unless there is no other in the box.
    """
    if pending is not None and len(pending):
        surrogates = [model.imagine(pending) for model in surrogates]
    first = surrogates[0]
    acquisition: Acquisition
    if len(surrogates) == 1:
        acquisition = ExpectedImprovement(first)
        anchors = first.points[np.argsort(first.predict(first.points)[0], kind="stable")[:_ANCHORS]]
    else:
        acquisition = front = ExpectedHypervolume(surrogates)
        anchors = front.front[spread(front.front, 2 * _ANCHORS)]
    return maximise(acquisition, first.features, anchors, generator, known=first.points, box=box)


def maximise(
    acquisition: Acquisition,
    features: Features,
    anchors: Array,
    generator: np.random.Generator,
    *,
    known: Array,
    box: tuple[Array, Array] | None = None,
) -> Array:
    """The point where an acquisition is largest.

    Candidates are drawn everywhere and near the anchors; it climbs from the best of them.

    Args:
        acquisition: what to maximise.
        features: which dimensions are choices.
        anchors: ``(a, d)`` points near which it may be large.
        generator: of the candidates.
        known: ``(n, d)`` points that are not to be proposed again.
        box: ``(d,)`` lowest and highest coordinates; the whole cube by default.

    Returns:
        ``(d,)``.
    """
    dimensions = anchors.shape[1]
    low, high = box or (np.zeros(dimensions), np.ones(dimensions))
    everywhere = low + (high - low) * generator.random((_EVERYWHERE, dimensions))
    near = np.clip(_neighbours(anchors, features, generator), low, high)
    candidates = features.snap(np.concatenate([everywhere, near]))
    values = acquisition.value(candidates)
    order = np.argsort(-values, kind="stable")
    # half of the climbs begin anywhere, half near an anchor, lest one basin takes them all
    starts = [*order[order < _EVERYWHERE][: _CLIMBS // 2], *order[order >= _EVERYWHERE][: _CLIMBS // 2]]
    tops = np.array([_climb(acquisition, features, candidates[start], low, high) for start in starts])
    pool = np.concatenate([tops, candidates[order]])
    scores = np.concatenate([acquisition.value(tops), values[order]])
    for place in np.argsort(-scores, kind="stable"):
        if not (np.abs(known - pool[place]) <= _SAME).all(1).any():
            return np.array(pool[place])
    return np.array(candidates[0])


def _neighbours(anchors: Array, features: Features, generator: np.random.Generator) -> Array:
    """Anchors, some ten dimensions of each moved: by steps of several lengths, choices to any value."""
    rows = np.repeat(anchors, _EACH * len(_STEPS), axis=0)
    steps = np.tile(np.repeat(_STEPS, _EACH), len(anchors))[:, None]
    moved = generator.random(rows.shape) < min(1.0, _MOVED / anchors.shape[1])
    shifted = np.asarray(rows + moved * steps * generator.standard_normal(rows.shape))
    if features.real.all():
        return shifted
    # a choice has no small step; one in ten changes, and at least one of them if all are choices
    changed = generator.random(rows.shape) < max(0.1, 1 / anchors.shape[1])
    return np.asarray(np.where(features.real, shifted, np.where(changed, generator.random(rows.shape), rows)))


def _climb(acquisition: Acquisition, features: Features, start: Array, low: Array, high: Array) -> Array:
    """The local maximum near a point: choices one by one, then the real dimensions by L-BFGS-B."""

    def descent(point: Array) -> tuple[float, Array]:
        value, gradient = acquisition.gradient(point[None])
        return -float(value[0]), -gradient[0]

    for _ in range(_CLIMBS):
        others = _flips(start, features, low, high)
        best = np.argmax(acquisition.value(others))
        if best == 0:
            break
        start = others[best]
    if not features.real.any():
        return start
    bounds = np.stack([np.where(features.real, low, start), np.where(features.real, high, start)], axis=1)
    found = minimize(descent, start, method="L-BFGS-B", jac=True, bounds=bounds, options={"maxiter": 30})
    return np.asarray(found.x)


def _flips(point: Array, features: Features, low: Array, high: Array) -> Array:
    """The point, and those that differ from it in one choice and lie in the box."""
    rows = [point]
    for place in np.flatnonzero(~features.real):
        count = features.choices[place]
        for centre in (np.arange(count) + 0.5) / count:
            if low[place] <= centre <= high[place] and abs(centre - point[place]) > _SAME:
                other = point.copy()
                other[place] = centre
                rows.append(other)
    return np.array(rows)
