"""Gradient descent on a recipe's knobs: Adam on batches of items, judged by whole evaluations.

Adam (Kingma and Ba, arXiv:1412.6980) in the unit cube, on the smooth loss (minus the probability of the right
answers). AdaMerging (arXiv:2310.02575) descends the entropy of unlabelled items' answers; here the items'
answers are known. The descent proposes and the score judges: after every few steps the mean of the last
iterates (Polyak and Juditsky, 1992) is asked all items, and when that has not got better for a while, the next
descent begins at another point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

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

__all__ = ["Descent", "GradientSearch"]

RATE = 0.04
"""Step size, as a share of each knob's range."""

STEPS = 4
"""Gradients between two judgements."""

PATIENCE = 3
"""Judgements without a better one after which a descent has ended."""

_DECAY, _SQUARED_DECAY = 0.8, 0.95


@dataclass
class Descent:
    """One run of Adam.

    Attributes:
        start: where it begins.
        loss: of its start, where it is known.
        rate: step size, as a share of each knob's range.
    """

    start: Point
    loss: float = np.inf
    rate: float = RATE
    best: float = field(init=False)
    stale: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self.best = self.loss
        self._point = np.array(self.start, dtype=np.float64)
        self._first, self._second = np.zeros_like(self._point), np.zeros_like(self._point)
        self._recent: list[NDArray[np.float64]] = []
        self._taken = 0

    @property
    def ended(self) -> bool:
        """Whether it no longer gets better."""
        return self.stale >= PATIENCE

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
            self._recent.clear()
            better = not outcome.failed and outcome.loss < self.best
            self.stale = 0 if better else self.stale + 1
            self.best = min(self.best, outcome.loss)
        elif outcome.gradient is None or not any(outcome.gradient):
            self.stale = PATIENCE  # no way on from here
        else:
            self._step(np.array(outcome.gradient))

    def _step(self, gradient: NDArray[np.float64]) -> None:
        """Algorithm 1 of Adam's paper, kept inside the cube."""
        self._taken += 1
        self._first += (1 - _DECAY) * (gradient - self._first)
        self._second += (1 - _SQUARED_DECAY) * (gradient**2 - self._second)
        mean = self._first / (1 - _DECAY**self._taken)
        size = np.sqrt(self._second / (1 - _SQUARED_DECAY**self._taken))
        self._point = np.clip(self._point - self.rate * mean / (size + 1e-12), 0.0, 1.0)
        self._recent.append(self._point)


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
        strangers = max(2, *problem.choices) if problem.choices else 2
        self._first = [*known, *(Proposal(self._random(number), "random") for number in range(strangers))]
        self._first.reverse()
        self._starts: list[tuple[float, Point]] = []
        self._running: list[Descent] = []
        self._out: list[tuple[Proposal, Descent]] = []
        self._batch = 0

    def ask(self, count: int = 1, pending: Sequence[Proposal] = ()) -> Sequence[Proposal]:  # noqa: ARG002
        """The known points; then the next step of every descent that is not waiting for one."""
        return [self._ask() for _ in range(count)]

    def tell(self, proposal: Proposal, outcome: Outcome) -> None:
        """Pass an outcome on to the descent that asked for it."""
        for place, (asked, descent) in enumerate(self._out):
            if asked == proposal:
                del self._out[place]
                descent.tell(proposal, outcome)
                return
        self._starts.append((outcome.loss, proposal.point))

    def _ask(self) -> Proposal:
        if self._first:
            return self._first.pop()
        self._running = [descent for descent in self._running if not descent.ended]
        idle = [run for run in self._running if all(run is not owner for _, owner in self._out)]
        descent = idle[0] if idle else self._begin()
        proposal = descent.propose(self._batch)
        self._batch += proposal.batch is not None
        self._out.append((proposal, descent))
        return proposal

    def _begin(self) -> Descent:
        """A new descent, from the best point that none began at; from a random one if there is none."""
        self._starts.sort()
        loss, start = self._starts.pop(0) if self._starts else (np.inf, self._random(self._batch))
        self._running.append(Descent(start, loss))
        return self._running[-1]

    def _random(self, number: int) -> Point:
        """A uniform point; choices, which no gradient moves, are taken in turn."""
        point = self._generator.random(self._problem.dimensions).tolist()
        for place, count in enumerate(self._problem.choices):
            if count:
                point[place] = (number % count + 0.5) / count
        return tuple(point)


register_algorithm(
    AlgorithmKind(
        "gradient", (), GradientSearch, "Adam on the knobs, with a backward pass a step", gradients=True
    )
)
