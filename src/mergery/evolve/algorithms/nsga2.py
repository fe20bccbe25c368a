"""NSGA-II: a population that moves towards the whole Pareto front of several losses and spreads along it.

K. Deb, A. Pratap, S. Agarwal and T. Meyarivan, A fast and elitist multiobjective genetic algorithm: NSGA-II
(IEEE Transactions on Evolutionary Computation 6(2), 2002). Evolutionary model merging names it for several
objectives (Akiba et al., arXiv:2403.13187, Methods); MERGE3 (arXiv:2502.10436) uses it.

As in the paper: binary tournaments by rank, then by crowding distance; simulated binary crossover with
probability 0.9 and polynomial mutation with probability 1/n, both of index 20; parents and children compete
for the next generation together.

Departs from the paper: the first generation is the start, known merges and a Latin hypercube, not random
points; each mating has one child; a point that was asked for before is bred again; dimensions of choices are
crossed uniformly and mutate to any value; populations are small, since merges cost minutes.

Several workers: a generation is whatever was told last, as many as the population; while its last points are
out, more are bred from the last whole generation, so nobody waits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

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
from mergery.evolve.algorithms.pareto import crowding_distance, non_dominated_sort
from mergery.evolve.algorithms.points import fresh, opening, snap
from mergery.evolve.algorithms.variation import bred

__all__ = ["Nsga2", "survivors"]

DEFAULT_POPULATION = 16

_CROSSING = 0.9
_ETAS = (20.0, 20.0)


@dataclass(frozen=True)
class _Member:
    point: Point
    losses: tuple[float, ...]
    rank: int = 0
    crowding: float = 0.0


class Nsga2:
    """NSGA-II in the unit cube.

    Args:
        problem: with its start, known points and choices.
        settings: seed and population.
    """

    def __init__(self, problem: Problem, settings: AlgorithmSettings) -> None:
        self._problem = problem
        self._generator = np.random.Generator(np.random.PCG64(settings.seed))
        self._size = max(settings.population or DEFAULT_POPULATION, 2)
        self._opening = opening(problem, self._size, self._generator)
        self._due = len(self._opening)
        self._asked: dict[Point, None] = {}
        self._told: list[_Member] = []
        self._parents: list[_Member] = []

    def ask(self, count: int = 1, pending: Sequence[Proposal] = ()) -> Sequence[Proposal]:  # noqa: ARG002
        """The rest of the first generation, then children of the last whole one."""
        proposals = []
        for _ in range(count):
            proposal = self._opening.pop(0) if self._opening else self._next()
            self._asked[snap(np.array(proposal.point), self._problem)] = None
            proposals.append(proposal)
        return proposals

    def tell(self, proposal: Proposal, outcome: Outcome) -> None:
        """Collect a generation; when it is whole, let it compete with its parents. Failures lose to all."""
        losses = (np.inf,) * len(outcome.losses) if outcome.failed else outcome.losses
        self._told.append(_Member(proposal.point, losses))
        if len(self._told) >= self._due:
            everybody = self._parents + self._told
            best, ranks, crowding = survivors(np.array([member.losses for member in everybody]), self._size)
            self._parents = [
                replace(everybody[place], rank=int(ranks[place]), crowding=float(crowding[place]))
                for place in best
            ]
            self._told, self._due = [], self._size

    def _next(self) -> Proposal:
        """A child that was not asked for before, or a random point."""
        child = fresh(self._child, self._asked, self._problem) if self._parents else None
        if child is not None:
            return Proposal(child, "nsga2")
        return Proposal(snap(self._generator.random(self._problem.dimensions), self._problem), "random")

    def _child(self) -> NDArray[np.float64]:
        one, other = self._parent(), self._parent()
        return bred(one, other, self._problem.choices, self._generator, crossing=_CROSSING, etas=_ETAS)

    def _parent(self) -> NDArray[np.float64]:
        """The better of two members: the lower rank, or the lonelier one of the same (Deb's <_n)."""
        one, other = (self._parents[place] for place in self._generator.integers(len(self._parents), size=2))
        winner = min(one, other, key=lambda member: (member.rank, -member.crowding))
        return np.array(winner.point)


def survivors(
    losses: NDArray[np.float64], size: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """The best fronts, and of the last that fits in part its loneliest points (Deb, section III.C).

    Args:
        losses: ``(points, objectives)``.
        size: how many live on.

    Returns:
        Indices of the survivors, best first, ``(size,)`` or all there are; rank and crowding distance of
        every point, ``(points,)``.
    """
    ranks = non_dominated_sort(losses)
    crowding = np.zeros(len(losses))
    for rank in range(ranks.max() + 1):
        crowding[ranks == rank] = crowding_distance(losses[ranks == rank])
    return np.lexsort((-crowding, ranks))[:size], ranks, crowding


register_algorithm(
    AlgorithmKind(
        "nsga2", ("population",), Nsga2, "NSGA-II: a Pareto front of several objectives", several=True
    )
)
