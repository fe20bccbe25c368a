"""Gradient descent on a recipe's knobs: Adam on batches of items, judged by whole evaluations.

Adam (Kingma and Ba, arXiv:1412.6980) in the unit cube, on the smooth loss (minus the probability of the right
answers). AdaMerging (arXiv:2310.02575) descends the entropy of unlabelled items' answers; here the items'
answers are known. The descent proposes and the score judges: after every few steps the mean of the last
iterates (Polyak and Juditsky, 1992) is asked all items, and when that has not got better for a while, the
next descent begins at another point.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

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
from mergery.evolve.algorithms.points import strangers

__all__ = ["Descent", "Descents", "GradientSearch", "smooth_loss"]

RATE = 0.05
"""Step size, as a share of each knob's range."""

STEPS = 6
"""Gradients between two judgements."""

PATIENCE = 3
"""Judgements without a better one after which a descent has ended."""

WIDTH = 2
"""Descents that are begun together."""

MOST = 4
"""Choices that are descended from at first, of however many."""

TRIED = 2
"""Judgements after which the best of those goes on alone."""

_DECAY, _SQUARED_DECAY = 0.8, 0.95


class Descent:
    """One run of Adam.

    Args:
        start: where it begins.

    Attributes:
        start: where it began.
        judged: how often it was judged.
        best: its best smooth loss.
    """

    def __init__(self, start: Point) -> None:
        self.start, self.judged = start, 0
        self.best = self._loss = np.inf
        self._stale = 0
        self._point = np.array(start, dtype=np.float64)
        self._first, self._second = np.zeros_like(self._point), np.zeros_like(self._point)
        self._recent: list[NDArray[np.float64]] = []
        self._taken = 0

    @property
    def ended(self) -> bool:
        """Whether it no longer gets better."""
        return self._stale >= PATIENCE

    def propose(self, batch: int) -> Proposal:
        """The next point whose gradient, or whose score, it needs.

        Args:
            batch: number of the batch of items for a gradient.
        """
        if len(self._recent) == STEPS:
            return Proposal(tuple(np.mean(self._recent, axis=0).tolist()), "gradient: judged")
        return Proposal(tuple(self._point.tolist()), "gradient", batch)

    def tell(self, proposal: Proposal, outcome: Outcome) -> None:
        """Take a step, or a judgement."""
        if proposal.batch is None:
            self._judge(outcome)
        elif outcome.gradient is None or not any(outcome.gradient):
            self._stale = PATIENCE  # no way on from here
        else:
            self._step(np.array(outcome.gradient))

    def _judge(self, outcome: Outcome) -> None:
        """The smooth loss may go on falling for long before an answer is right: either will do."""
        self._recent.clear()
        self.judged += 1
        smooth = smooth_loss(outcome)
        better = outcome.loss < self._loss or smooth < self.best
        self._stale = 0 if better else self._stale + 1
        self._loss, self.best = min(self._loss, outcome.loss), min(self.best, smooth)

    def _step(self, gradient: NDArray[np.float64]) -> None:
        """Algorithm 1 of Adam's paper, kept inside the cube."""
        self._taken += 1
        self._first += (1 - _DECAY) * (gradient - self._first)
        self._second += (1 - _SQUARED_DECAY) * (gradient**2 - self._second)
        mean = self._first / (1 - _DECAY**self._taken)
        size = np.sqrt(self._second / (1 - _SQUARED_DECAY**self._taken))
        self._point = np.clip(self._point - RATE * mean / (size + 1e-12), 0.0, 1.0)
        self._recent.append(self._point)


def smooth_loss(outcome: Outcome) -> float:
    """The smooth loss, where there is one; else the loss."""
    return outcome.loss if math.isnan(outcome.smooth) else outcome.smooth


class Descents:
    """Several descents: a few begun together, of which the best goes on, and so again from new points.

    No gradient leads from one choice to another, so the first round has a descent for each of them that was
    offered, or two where nothing is to be chosen. It begins at the first point that was offered, whatever its
    loss: among known points that is the most neutral merge, from which every model's share can grow. Later
    descents begin at the best point that is not near the beginning of another.

    Args:
        choices: of every dimension the number of its values, or 0; empty if all are real.
    """

    def __init__(self, choices: Sequence[int] = ()) -> None:
        self._chosen = [place for place, values in enumerate(choices) if values]
        self._starts: list[tuple[float, Point]] = []
        self._used: list[Point] = []
        self._running: list[Descent] = []
        self._out: list[tuple[Proposal, Descent]] = []
        self._batch = 0

    def offer(self, point: Point, loss: float) -> None:
        """Make known a point where a descent may begin."""
        self._starts.append((loss, point))

    def propose(self) -> Proposal | None:
        """The next step of a descent that waits for nothing, or of a new one; ``None`` without a start."""
        self._running = [descent for descent in self._running if not descent.ended]
        if len(self._running) > 1 and all(descent.judged >= TRIED for descent in self._running):
            self._running = [min(self._running, key=lambda descent: descent.best)]
        if not self._running:
            for _ in range(WIDTH if self._used else max(WIDTH, len(self._firsts()))):
                self._begin()
        idle = [run for run in self._running if all(run is not owner for _, owner in self._out)]
        descent = min(idle, key=lambda run: run.judged, default=None) or self._begin()
        if descent is None:
            return None
        proposal = descent.propose(self._batch)
        self._batch += proposal.batch is not None
        self._out.append((proposal, descent))
        return proposal

    def tell(self, proposal: Proposal, outcome: Outcome) -> bool:
        """Pass an outcome on to the descent that asked for it; whether there is one."""
        for place, (asked, descent) in enumerate(self._out):
            if asked == proposal:
                del self._out[place]
                descent.tell(proposal, outcome)
                return True
        return False

    def _begin(self) -> Descent | None:
        """A new descent, if there is a point to begin at."""
        open_starts = [entry for entry in self._starts if self._is_new(entry[1])]
        if not open_starts:
            return None
        firsts = [point for point in self._firsts() if point not in self._used]
        start = firsts[0] if firsts else min(open_starts)[1]
        self._used.append(start)
        self._running.append(Descent(start))
        return self._running[-1]

    def _firsts(self) -> list[Point]:
        """The first point that was offered of each combination of choices."""
        firsts: dict[Point, Point] = {}
        for _, point in self._starts:
            firsts.setdefault(tuple(point[place] for place in self._chosen), point)
        return list(firsts.values())[:MOST]

    def _is_new(self, point: Point) -> bool:
        """Whether it is further than a step from every beginning so far."""
        return all(max(abs(x - y) for x, y in zip(point, used, strict=True)) > RATE for used in self._used)


class GradientSearch:
    """Descents from the known points, the best first; then from random ones.

    Args:
        problem: what is searched; the known points and the start are judged first.
        settings: the seed.
    """

    def __init__(self, problem: Problem, settings: AlgorithmSettings) -> None:
        self._problem = problem
        self._generator = np.random.Generator(np.random.PCG64(settings.seed))
        known = [Proposal(point, f"known: {name}") for name, point in problem.known]
        known.append(Proposal(problem.start, "start"))
        self._strangers = max((2, *problem.choices))
        self._first = [*known, *strangers(problem, 0, self._strangers, self._generator)]
        self._first.reverse()
        self._descents = Descents(problem.choices)

    def ask(self, count: int = 1, pending: Sequence[Proposal] = ()) -> Sequence[Proposal]:  # noqa: ARG002
        """The known points; then the next step of every descent that is not waiting for one."""
        return [self._ask() for _ in range(count)]

    def tell(self, proposal: Proposal, outcome: Outcome) -> None:
        """Pass an outcome on to the descent that asked for it."""
        if not self._descents.tell(proposal, outcome):
            self._descents.offer(proposal.point, smooth_loss(outcome))

    def _ask(self) -> Proposal:
        if self._first:
            return self._first.pop()
        proposal = self._descents.propose()
        if proposal is None:
            self._strangers += 1
            (proposal,) = strangers(self._problem, self._strangers, 1, self._generator)
        return proposal


register_algorithm(
    AlgorithmKind(
        "gradient", (), GradientSearch, "Adam on the knobs, with a backward pass a step", gradients=True
    )
)
