"""A genetic algorithm on a grid of eleven values a knob: the search that mergenetic runs.

A. Minut et al., Mergenetic (arXiv:2505.11427); T. Mencattini et al., MERGE3 (arXiv:2502.10436). Its genome
has an integer from 0 to 10 for every knob, divided by ten; its scripts leave all else to pymoo's ``GA``
(J. Blank and K. Deb, pymoo, IEEE Access 8, 2020) with a population of ten: random integers first; binary
tournaments; simulated binary crossover with probability 0.9 and index 15; polynomial mutation of nine
children in ten, with probability min(1/2, 1/n) and index 20; children that equal a parent or a sibling are
bred again; the best of parents and children live on.

Departs from mergenetic: children are rounded to the grid, as its genome means it to be (its scripts pass
pymoo no rounding, so from the second generation on their numbers are broken ones); each mating has one child;
a population that can breed nothing new goes on with random points, where pymoo ends the search. A dimension
of choices has one level for each.

Several workers: a generation is whatever was told last, as many as the population; while its last points are
out, more are bred from the last whole generation, so nobody waits.
"""

from __future__ import annotations

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
from mergery.evolve.algorithms.points import fresh, snap
from mergery.evolve.algorithms.variation import polynomial_mutation, simulated_binary_crossover

__all__ = ["STEPS", "Genetic"]

STEPS = 10
"""Steps of the grid along an edge."""

DEFAULT_POPULATION = 10

_CROSSING, _CROSSING_ETA = 0.9, 15.0
_MUTATING, _MUTATION_ETA = 0.9, 20.0


class Genetic:
    """mergenetic's search in the unit cube.

    Args:
        problem: whose choices it minds; it knows no start and no known points.
        settings: seed and population.
    """

    def __init__(self, problem: Problem, settings: AlgorithmSettings) -> None:
        self._problem = problem
        self._chosen = np.array(problem.choices or (0,) * problem.dimensions) > 0
        self._generator = np.random.Generator(np.random.PCG64(settings.seed))
        self._size = max(settings.population or DEFAULT_POPULATION, 2)
        self._parents: dict[Point, float] = {}
        self._told: dict[Point, float] = {}
        self._out: dict[Point, None] = {}
        self._due = self._size

    def ask(self, count: int = 1, pending: Sequence[Proposal] = ()) -> Sequence[Proposal]:  # noqa: ARG002
        """Random points of the grid, then children of the last whole generation."""
        points = []
        for _ in range(count):
            point = self._fresh()
            self._out[point] = None
            points.append(point)
        return [Proposal(point, "ga") for point in points]

    def tell(self, proposal: Proposal, outcome: Outcome) -> None:
        """Collect a generation; when it is whole, keep the best of it and its parents."""
        self._out.pop(proposal.point, None)
        self._told[proposal.point] = np.inf if outcome.failed else outcome.loss
        self._due -= 1
        if self._due == 0:
            # a stable sort: of equal members the elder stays, as in pymoo
            members = sorted((self._parents | self._told).items(), key=lambda member: member[1])
            self._parents, self._told, self._due = dict(members[: self._size]), {}, self._size

    def _fresh(self) -> Point:
        """A point that is neither a parent's nor a sibling's, if that can be had."""
        kin = self._parents | self._told | dict.fromkeys(self._out, 0.0)
        child = fresh(self._child if self._parents else self._random, kin, self._problem)
        return snap(self._random(), self._problem) if child is None else child

    def _child(self) -> NDArray[np.float64]:
        generator = self._generator
        child = self._parent()
        if generator.random() < _CROSSING:
            child = simulated_binary_crossover(child, self._parent(), generator, eta=_CROSSING_ETA)
        if generator.random() < _MUTATING:
            rate = min(0.5, 1 / len(child))
            child = polynomial_mutation(child, generator, eta=_MUTATION_ETA, rate=rate)
        return self._rounded(child)

    def _parent(self) -> NDArray[np.float64]:
        """The better of two members."""
        members = list(self._parents.items())
        one, other = (members[place] for place in self._generator.integers(len(members), size=2))
        return np.array(min(one, other, key=lambda member: member[1])[0])

    def _random(self) -> NDArray[np.float64]:
        """Every level, and every choice, equally likely."""
        generator, size = self._generator, self._problem.dimensions
        return np.where(
            self._chosen, generator.random(size), generator.integers(STEPS + 1, size=size) / STEPS
        )

    def _rounded(self, point: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(self._chosen, point, np.rint(point * STEPS) / STEPS)


register_algorithm(
    AlgorithmKind("ga", ("population",), Genetic, "mergenetic's genetic algorithm: eleven values a knob")
)
