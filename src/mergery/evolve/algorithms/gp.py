"""Gaussian-process search: a model of the loss, asked where a trial is hoped to gain most.

It begins with the known points (the ladder), the start and some points spread evenly, then alternates between
a fit and a proposal; see :mod:`mergery.evolve.algorithms.gaussian`. Of several objectives it models each, and
looks for the largest gain in the front's hypervolume.

Several workers: a point that is out is taken to come out as the model expects.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from mergery.evolve.algorithms.api import (
    AlgorithmKind,
    AlgorithmSettings,
    Outcome,
    Point,
    Problem,
    Proposal,
    register_algorithm,
)
from mergery.evolve.algorithms.pareto import front_indices
from mergery.threads import one_blas_thread

__all__ = ["GaussianProcess", "sampling_errors"]

Array = NDArray[np.float64]

_DIGITS = 6
"""Coordinates are rounded: a search continued where sums round otherwise shall ask for the same."""

_SPREAD_LEAST = 3
"""Known merges lie on a few lines through the cube; at least so many points off them are tried, too."""

_DOUBT_EVERY, _DOUBT = 2, 0.5
"""Every second proposal is that of a model with half the lengthscales. On seven landscapes with cliffs, noise
and traps: a third to a half less regret after 60 trials than without. What widens a front does without."""

_KEPT = 400
"""A fit costs the cube of its trials; beyond these, most of the worse half of them are left out."""

_POOLED = 4


class GaussianProcess:
    """Search by a Gaussian process.

    Args:
        problem: with as many objectives as outcomes will have losses.
        settings: the seed.
    """

    def __init__(self, problem: Problem, settings: AlgorithmSettings) -> None:
        # scipy is imported by a search, not by the list of algorithms
        from mergery.evolve.algorithms.gaussian import Surrogate

        self._problem = problem
        self._choices = problem.choices or (0,) * problem.dimensions
        self._generator = np.random.Generator(np.random.PCG64(settings.seed))
        self._known = [Proposal(point, what) for what, point in _first(problem)]
        self._cover = _cover(problem.dimensions, settings.seed)
        self._covered = 0
        self._surrogates = [Surrogate(self._choices) for _ in range(problem.objectives)]
        self._points: list[Point] = []
        self._losses: list[tuple[float, ...]] = []
        self._items: list[tuple[int, float]] = []
        self._fitted = self._tuned = 0

    def ask(self, count: int = 1, pending: Sequence[Proposal] = ()) -> Sequence[Proposal]:
        """The next points of the design, then those of most expected improvement."""
        out = [proposal.point for proposal in pending]
        asked: list[Proposal] = []
        with one_blas_thread():
            for _ in range(count):
                asked.append(self._next([*out, *(proposal.point for proposal in asked)]))
        return asked

    def tell(self, proposal: Proposal, outcome: Outcome) -> None:
        """Remember the outcome; the next question will be answered by it."""
        losses = outcome.losses if self._problem.objectives > 1 else (outcome.loss,)
        self._points.append(proposal.point)
        self._losses.append((math.inf,) * len(losses) if outcome.failed else losses)
        self._items.append((len(outcome.items), float(np.var(outcome.items)) if len(outcome.items) else 0.0))

    def _next(self, out: Sequence[Point]) -> Proposal:
        """One proposal, while ``out`` are being tried."""
        from mergery.evolve.algorithms.gaussian import propose

        tried = [*self._points, *out]
        while self._known:
            proposal = self._known.pop(0)
            # who tells it what others tried need not wait for it to try that again
            if not _among(proposal.point, tried):
                return proposal
        few = len(tried) < max(5, min(2 * self._problem.dimensions, 10)) or len(self._points) < _SPREAD_LEAST
        if few or self._covered < _SPREAD_LEAST:
            self._covered += 1
            return Proposal(next(self._cover), "sobol")
        self._fit()
        pending = np.array(out).reshape(-1, self._problem.dimensions)
        models = self._surrogates
        if len(models) == 1 and (len(self._points) + len(out)) % _DOUBT_EVERY == 0:
            models = [model.doubting(_DOUBT) for model in models]
        point = propose(models, self._generator, pending=pending)
        return Proposal(_rounded(point), "gp")

    def _fit(self) -> None:
        """Bring the models up to what was told; parameters are looked for less often as trials add up."""
        from mergery.evolve.algorithms.gaussian import Warp

        count = len(self._points)
        if count == self._fitted:
            return
        points, losses = np.array(self._points), np.array(self._losses)
        several = losses.shape[1] > 1
        # items have one loss each, which is not that of any one objective
        errors = np.zeros(count) if several else sampling_errors(*np.array(self._items).T)
        kept = _kept(points, losses.mean(1))
        points, losses, errors = points[kept], losses[kept], errors[kept]
        # what is worse than every point of the front is drawn in, and nothing else
        front = losses[front_indices(losses)]
        nadir = front.max(0) if several and len(front) else np.full(losses.shape[1], -np.inf)
        tune = count - self._tuned > count // 40
        for place, surrogate in enumerate(self._surrogates):
            warp = Warp.of(points, losses[:, place], least=nadir[place])
            surrogate.fit(points, losses[:, place], errors, warp=warp, tune=tune)
        self._fitted = count
        self._tuned = count if tune else self._tuned


def sampling_errors(counts: Array, variances: Array) -> Array:
    """Standard errors of mean losses of candidates that were given up early.

    What is searched for is the lowest mean over all items. A candidate that was asked all of them has no
    error of this kind; the mean of n among N is off by s √(1/n - 1/N). The variance s² of few items is drawn
    to that of all, or three equal answers would pass for certainty.

    Args:
        counts: ``(candidates,)`` how many items each was asked; 0 if that is not known.
        variances: ``(candidates,)`` of its items' losses.

    Returns:
        ``(candidates,)``; 0 where there are no items.
    """
    asked = np.maximum(counts, 1)
    pooled = counts @ variances / max(counts.sum(), 1)
    variances = (counts * variances + _POOLED * pooled) / (counts + _POOLED)
    missing = np.where(counts > 0, 1 / asked - 1 / asked.max(initial=1), 0.0)
    return np.asarray(np.sqrt(variances * missing))


def _cover(dimensions: int, seed: int) -> Iterator[Point]:
    """An endless sequence of points that cover the cube evenly (Sobol, scrambled)."""
    from scipy.stats import qmc

    sequence = qmc.Sobol(dimensions, rng=np.random.Generator(np.random.PCG64([seed, 1])))
    while True:
        for point in sequence.random(16):
            yield _rounded(point)


def _first(problem: Problem) -> list[tuple[str, Point]]:
    """Known points and the start, each once, with where they come from."""
    rows = [(point, f"ladder: {what}") for what, point in problem.known]
    named: dict[Point, str] = {}
    for point, what in [*rows, (problem.start, "start")]:
        named.setdefault(tuple(map(float, point)), what)
    return [(what, point) for point, what in named.items()]


def _among(point: Point, others: Sequence[Point]) -> bool:
    """Whether a point is one of the others, but for rounding."""
    return any(max(abs(x - y) for x, y in zip(point, other, strict=True)) < 1e-6 for other in others)


def _rounded(point: Array) -> Point:
    return tuple(np.round(np.clip(point, 0.0, 1.0), _DIGITS).tolist())


def _kept(points: Array, losses: Array) -> NDArray[np.int64]:
    """Which trials to model: all while they are few; else the better ones, and others from everywhere."""
    from mergery.evolve.algorithms.gaussian import spread

    order = np.argsort(losses, kind="stable")
    if len(order) <= _KEPT:
        return np.arange(len(order))
    better, others = order[: _KEPT // 2], order[_KEPT // 2 :]
    return np.sort(np.concatenate([better, others[spread(points[others], _KEPT - len(better))]]))


register_algorithm(
    AlgorithmKind(
        "gp", (), GaussianProcess, "Gaussian process with expected improvement, for few trials", several=True
    )
)
