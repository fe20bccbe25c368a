"""Gradient descent on a recipe's knobs: Adam on batches of items, judged by whole evaluations.

Adam (Kingma and Ba, arXiv:1412.6980) in the unit cube, on the smooth loss (:mod:`mergery.evaluate.soft`).
AdaMerging (arXiv:2310.02575) descends the entropy of unlabelled items' answers; here the items'
answers are known. The descent proposes and the score judges: after every few steps the mean of the last
iterates (Polyak and Juditsky, 1992) is asked all items. Where a descent leads depends on where it begins, and
chance: the first steps serve whatever makes answers look right, and some descents end there. So while the
best one is not clearly gaining, most rounds go to new ones.

One change to Adam: a knob's step is divided by the root of its own mean squared gradient and a part of the
mean over all knobs, because knobs of models that do not matter would take steps as long as the others.
"""

from __future__ import annotations

import math
from collections import deque
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

STEPS = 18
"""Gradients between two judgements: about as many as there are batches in 400 items."""

AVERAGED = 6
"""Iterates whose mean is judged."""

PATIENCE = 2
"""Judgements without a better one after which a descent has ended."""

SHARE = 1 / 4
"""Of the rounds after which the best descent is not clearly better, that it has; new ones have the others."""

DAMPING = 0.1
"""Of the mean squared gradient over all knobs, in each knob's: enough that the knobs of models of no use stay
where they are, little enough that knobs of small effect still move."""

_DECAY, _SQUARED_DECAY = 0.8, 0.95


class Descent:
    """One run of Adam.

    Args:
        start: where it begins.

    Attributes:
        start: where it began.
        judged: how often it was judged.
        best: its best smooth loss.
        gaining: whether the last judgement was the first, or clearly better than the one before it.
    """

    def __init__(self, start: Point) -> None:
        self.start, self.judged, self.gaining = start, 0, True
        self._items = np.empty(0, np.float32)
        self.best = self._loss = np.inf
        self._stale = 0
        self._point = np.array(start, dtype=np.float64)
        self._first, self._second = np.zeros_like(self._point), np.zeros_like(self._point)
        self._recent: list[NDArray[np.float64]] = []
        self._taken = 0

    @property
    def halfway(self) -> bool:
        """Whether it has taken steps that were not judged."""
        return bool(self._recent)

    @property
    def ended(self) -> bool:
        """Whether it no longer gets better."""
        return self._stale >= PATIENCE

    def propose(self) -> Proposal:
        """The next point whose gradient, or whose score, it needs; all descents ask the same batches."""
        if len(self._recent) == STEPS:
            return Proposal(tuple(np.mean(self._recent[-AVERAGED:], axis=0).tolist()), "gradient: judged")
        return Proposal(tuple(self._point.tolist()), "gradient", self._taken)

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
        self.gaining = self.judged == 1 or _clearly_less(outcome.items, self._items)
        self._items = outcome.items

    def _step(self, gradient: NDArray[np.float64]) -> None:
        """Algorithm 1 of Adam's paper, kept inside the cube."""
        self._taken += 1
        self._first += (1 - _DECAY) * (gradient - self._first)
        self._second += (1 - _SQUARED_DECAY) * (gradient**2 - self._second)
        mean = self._first / (1 - _DECAY**self._taken)
        damped = self._second + DAMPING * self._second.mean()
        size = np.sqrt(damped / (1 - _SQUARED_DECAY**self._taken))
        self._point = np.clip(self._point - RATE * mean / (size + 1e-12), 0.0, 1.0)
        self._recent.append(self._point)


def _clearly_less(losses: NDArray[np.float32], before: NDArray[np.float32]) -> bool:
    """Whether the losses on the items that were asked both times fell by more than a standard error."""
    count = min(len(losses), len(before))
    if count < 2:
        return False
    fall = before[:count].astype(np.float64) - losses[:count]
    return bool(fall.mean() > fall.std(ddof=1) / math.sqrt(count))


def smooth_loss(outcome: Outcome) -> float:
    """The smooth loss, where there is one; else the loss."""
    return outcome.loss if math.isnan(outcome.smooth) else outcome.smooth


class Descents:
    """Plain merges, and descents from them: new ones for as long as the best one is not clearly gaining.

    The first begins at the first plain merge, whatever its loss: that is the most neutral one, from which
    every model's share can grow. The other plain merges come after its first round, so that a race against
    what it found gives most of them up early. Later descents begin where none has, by turns at the best point
    and at any: what is good as it is may lead nowhere.

    Args:
        plain: at least one merge, the most neutral first.
        generator: of random numbers.
    """

    def __init__(self, plain: Sequence[Proposal], generator: np.random.Generator) -> None:
        self._plain, self._generator = deque(plain), generator
        self._asked: list[Proposal] = []
        self._starts: list[tuple[float, Point]] = []
        self._all: list[Descent] = []
        self._out: list[tuple[Proposal, Descent]] = []

    def offer(self, point: Point, outcome: Outcome) -> None:
        """Make known a point where a descent may begin."""
        if not outcome.failed:
            self._starts.append((smooth_loss(outcome), point))

    def propose(self) -> Proposal | None:
        """The next plain merge, or step of a descent; ``None`` if none is left or all wait for outcomes."""
        descent = self._next()
        if descent is not None:
            proposal = descent.propose()
            self._out.append((proposal, descent))
            return proposal
        if not self._plain:
            return None
        self._asked.append(self._plain.popleft())
        return self._asked[-1]

    def tell(self, proposal: Proposal, outcome: Outcome) -> bool:
        """Pass on an outcome; whether it was asked for here."""
        for place, (asked, descent) in enumerate(self._out):
            if asked == proposal:
                del self._out[place]
                descent.tell(proposal, outcome)
                return True
        if proposal not in self._asked:
            return False
        self._asked.remove(proposal)
        self.offer(proposal.point, outcome)
        return True

    def _next(self) -> Descent | None:
        """The descent whose turn it is; ``None`` if it is a plain merge's, or all wait."""
        waiting = {id(descent) for _, descent in self._out}
        idle = [descent for descent in self._all if id(descent) not in waiting and not descent.ended]
        young = [descent for descent in idle if descent.halfway or not descent.judged]
        if young:
            return max(young, key=lambda descent: descent.halfway)
        if self._plain:
            return None if self._all else self._begin()
        best = min(idle, key=lambda descent: descent.best, default=None)
        if best is None or not best.gaining:
            others = len(self._all) - 1
            spare = sum(descent.judged - 1 for descent in self._all)
            if best is None or SHARE * others <= (1 - SHARE) * spare:
                return self._begin() or best
        return best

    def _begin(self) -> Descent | None:
        """A new descent, if there is a point to begin at."""
        used = [descent.start for descent in self._all]
        fresh = [(loss, point) for loss, point in self._starts if _is_new(point, used)]
        if not fresh:
            return None
        if not used:
            start = fresh[0][1]
        elif len(used) % 2:
            start = min(fresh)[1]
        else:
            start = fresh[self._generator.integers(len(fresh))][1]
        self._all.append(Descent(start))
        return self._all[-1]


def _is_new(point: Point, used: Sequence[Point]) -> bool:
    """Whether it is further than a step from every beginning so far."""
    return all(max(abs(x - y) for x, y in zip(point, start, strict=True)) > RATE for start in used)


class GradientSearch:
    """Descents from plain merges and the start; when all have ended, from random points.

    Args:
        problem: what is searched.
        settings: the seed.
    """

    def __init__(self, problem: Problem, settings: AlgorithmSettings) -> None:
        self._problem = problem
        self._generator = np.random.Generator(np.random.PCG64(settings.seed))
        known = [Proposal(point, f"known: {name}") for name, point in problem.known]
        known.append(Proposal(problem.start, "start"))
        self._strangers = max((2, *problem.choices))
        plain = [*known, *strangers(problem, 0, self._strangers, self._generator)]
        self._descents = Descents(plain, self._generator)

    def ask(self, count: int = 1, pending: Sequence[Proposal] = ()) -> Sequence[Proposal]:  # noqa: ARG002
        """The next plain merge or step of every descent that is not waiting for one."""
        return [self._ask() for _ in range(count)]

    def tell(self, proposal: Proposal, outcome: Outcome) -> None:
        """Pass an outcome on to the descent that asked for it."""
        if not self._descents.tell(proposal, outcome):
            self._descents.offer(proposal.point, outcome)

    def _ask(self) -> Proposal:
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
