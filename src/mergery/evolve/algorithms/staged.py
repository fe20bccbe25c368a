"""The default: plain merges first, then a coarse search, then a fine one from where that ended.

A search begins with the points that people try by hand (the ladder). Where a loss has gradients, descents
begin there, at the finest level: a backward pass moves a hundred numbers at the cost of three evaluations.
Elsewhere few numbers are searched well by a Gaussian process, many by CMA-ES from a good beginning, and many
from scratch badly by both: so the coarsest level of the space, where each knob is one number, is modelled
first, and finer levels from the best that was found. Where nothing gets better any more, the coarse level is
searched for another beginning.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mergery.evolve.algorithms.api import (
    Algorithm,
    AlgorithmKind,
    AlgorithmSettings,
    Outcome,
    Point,
    Problem,
    Proposal,
    get_algorithm,
    register_algorithm,
)
from mergery.evolve.algorithms.gradient import Descents
from mergery.evolve.algorithms.points import strangers

__all__ = ["Staged", "View"]

COARSE_DIMENSIONS = 20
"""More numbers than this are not modelled by a Gaussian process, not even at the coarsest level."""

RADIUS = 0.25
"""Of the box, around the best point, in which a finer level is modelled."""

POLISH_SIGMA = 0.08
"""First standard deviation of CMA-ES around the best point."""


@dataclass(frozen=True)
class View:
    """Part of a problem, as a cube of its own: dimensions tied in groups, in a box.

    Attributes:
        groups: the group of every dimension.
        lower: of every dimension.
        upper: of every dimension.
    """

    groups: tuple[int, ...]
    lower: Point
    upper: Point

    @classmethod
    def whole(cls, groups: tuple[int, ...]) -> View:
        """The whole cube, tied."""
        return cls(groups, (0.0,) * len(groups), (1.0,) * len(groups))

    @classmethod
    def around(cls, groups: tuple[int, ...], centre: Point, choices: Sequence[int]) -> View:
        """A box around a point; what is chosen stays."""
        radii = [0.0 if count else RADIUS for count in choices or [0] * len(centre)]
        lower = tuple(max(0.0, x - radius) for x, radius in zip(centre, radii, strict=True))
        upper = tuple(min(1.0, x + radius) for x, radius in zip(centre, radii, strict=True))
        return cls(groups, lower, upper)

    def lift(self, point: Point) -> Point:
        """A point of the view, in the problem's cube."""
        ends = zip(self.groups, self.lower, self.upper, strict=True)
        return tuple(low + (high - low) * point[group] for group, low, high in ends)

    def drop(self, point: Point) -> Point:
        """A point of the problem's cube, in the view: groups by their first dimension."""
        widths = [high - low for low, high in zip(self.lower, self.upper, strict=True)]
        shares = [(point[at] - self.lower[at]) / widths[at] if widths[at] else 0.5 for at in self._first]
        return tuple(min(1.0, max(0.0, share)) for share in shares)

    def holds(self, point: Point) -> bool:
        """Whether a point lies in the box, and on the level."""
        return max(abs(x - y) for x, y in zip(self.lift(self.drop(point)), point, strict=True)) < 1e-9

    def problem(self, whole: Problem, start: Point) -> Problem:
        """What an algorithm is told of the view."""
        open_choices = [count if high > low else 0 for count, low, high in self._choices(whole)]
        return Problem(self.drop(start), tuple(open_choices[at] for at in self._first))

    @property
    def _first(self) -> tuple[int, ...]:
        """The first dimension of every group."""
        return tuple(self.groups.index(group) for group in range(max(self.groups) + 1))

    def _choices(self, whole: Problem) -> Iterator[tuple[int, float, float]]:
        counts = whole.choices or (0,) * whole.dimensions
        return zip(counts, self.lower, self.upper, strict=True)


class Stage:
    """One algorithm on one view, until it no longer gets better.

    Args:
        name: for the record.
        kind: name of the algorithm.
        view: where it looks.
        problem: the whole problem.
        start: where it begins.
        settings: the algorithm's.
        patience: outcomes without a better one after which it has ended.

    Attributes:
        models: whether it can learn from points that it did not ask for.
    """

    def __init__(
        self,
        name: str,
        kind: str,
        view: View,
        problem: Problem,
        start: Point,
        settings: AlgorithmSettings,
        patience: int,
    ) -> None:
        self._name, self._view, self._patience = name, view, patience
        self.models = kind == "gp"
        self._algorithm: Algorithm = get_algorithm(kind).start(view.problem(problem, start), settings)
        self._out: list[tuple[Proposal, Proposal]] = []
        self._stale = 0
        self._best = np.inf

    @property
    def ended(self) -> bool:
        """Whether it no longer gets better."""
        return self._stale >= self._patience

    def propose(self) -> Proposal | None:
        """The next point, in the whole cube."""
        asked = self._algorithm.ask(1, tuple(inner for _, inner in self._out))
        if not asked:
            return None
        outer = Proposal(self._view.lift(asked[0].point), self._name)
        self._out.append((outer, asked[0]))
        return outer

    def tell(self, proposal: Proposal, outcome: Outcome) -> bool:
        """Pass on an outcome; whether this stage asked for it."""
        for place, (outer, inner) in enumerate(self._out):
            if outer == proposal:
                del self._out[place]
                self._algorithm.tell(inner, outcome)
                better = not outcome.failed and outcome.loss < self._best
                self._stale = 0 if better else self._stale + 1
                self._best = min(self._best, outcome.loss)
                return True
        return False

    def learn(self, point: Point, outcome: Outcome) -> None:
        """Pass on what is known of a point that others tried, if it can be seen from here."""
        if self._view.holds(point):
            self._algorithm.tell(Proposal(self._view.drop(point)), outcome)


class Staged:
    """Ladder, coarse level, finer levels, and around.

    Args:
        problem: what is searched.
        settings: the seed.
    """

    def __init__(self, problem: Problem, settings: AlgorithmSettings) -> None:
        self._problem, self._settings = problem, settings
        self._levels = problem.levels or (tuple(range(problem.dimensions)),)
        names = dict.fromkeys(point for _, point in problem.known)
        self._ladder = [Proposal(point, f"ladder: {name}") for name, point in problem.known]
        if problem.start not in names:
            self._ladder.append(Proposal(problem.start, "ladder: start"))
        generator = np.random.Generator(np.random.PCG64(settings.seed))
        self._ladder += strangers(problem, 0, max((1, *problem.choices)), generator)
        self._descents = Descents(self._ladder, generator) if problem.gradients else None
        self._ladder.reverse()
        self._history: list[tuple[Proposal, Outcome]] = []
        self._stages: list[Stage] = []
        self._level = -1

    def ask(self, count: int = 1, pending: Sequence[Proposal] = ()) -> Sequence[Proposal]:  # noqa: ARG002
        """The next points, each from the stage that the search is at."""
        return [self._ask() for _ in range(count)]

    def tell(self, proposal: Proposal, outcome: Outcome) -> None:
        """Pass an outcome on to the stage that asked for it, and remember it for those to come."""
        if proposal.batch is None:
            self._history.append((proposal, outcome))
        staged = any(stage.tell(proposal, outcome) for stage in self._stages)
        if self._descents and not self._descents.tell(proposal, outcome) and staged:
            self._descents.offer(proposal.point, outcome)

    def _ask(self) -> Proposal:
        if self._descents:
            proposal = self._descents.propose()
            if proposal is not None:
                return proposal
        elif self._ladder:
            return self._ladder.pop()
        if self._stages and not self._stages[-1].ended:
            proposal = self._stages[-1].propose()
            if proposal is not None:
                return proposal
        self._advance()
        return self._ask()

    def _advance(self) -> None:
        """Begin the next stage: the next finer level, or the coarsest again."""
        self._level = (self._level + 1) % (1 if self._problem.gradients else len(self._levels) + 1)
        seed = (self._settings.seed + 1009 * len(self._stages)) % 2**32
        settings = replace(self._settings, seed=seed)
        finest = len(self._levels) == self._level
        groups = self._levels[min(self._level, len(self._levels) - 1)]
        dimensions = max(groups) + 1
        best = self._best()
        if self._level == 0 and dimensions <= COARSE_DIMENSIONS:
            view = View.whole(groups)
            stage = Stage("coarse", "gp", view, self._problem, best, settings, 4 + 2 * dimensions)
        elif not finest and dimensions <= COARSE_DIMENSIONS:
            view = View.around(groups, best, self._problem.choices)
            stage = Stage("finer", "gp", view, self._problem, best, settings, 4 + 2 * dimensions)
        else:
            polish = replace(settings, sigma=POLISH_SIGMA, population=None)
            view = View.whole(groups)
            patience = 8 * (4 + int(3 * np.log(dimensions)))
            stage = Stage("polish", "cma-es", view, self._problem, best, polish, patience)
        if stage.models:
            for proposal, outcome in self._history:
                stage.learn(proposal.point, outcome)
        self._stages.append(stage)

    def _best(self) -> Point:
        """The best point so far."""
        entries = ((outcome.loss, proposal.point) for proposal, outcome in self._history)
        return min(entries, default=(0.0, self._problem.start))[1]


register_algorithm(
    AlgorithmKind(
        "staged",
        (),
        Staged,
        "plain merges, then a Gaussian process on few numbers, then gradients or CMA-ES on many",
        frugal=True,
    )
)
