"""M2N2: an archive whose members compete item by item, so that specialists live on and are merged.

J. Abrantes, R. T. Lange and Y. Tang, Competition and Attraction Improve Model Fusion (arXiv:2508.16204),
model merging of natural niches. With s_ij the score of member i on item j, z_j their sum over the archive and
c_j = max_i s_ij what the item has to give:

- competition (equations 3 and 5): fitness f_i = sum_j s_ij c_j / z_j^alpha, so an item that many solve gives
  each of them little. The archive takes every new point in; then the one of least fitness leaves.
- attraction (equation 4): the first parent is drawn in proportion to its fitness, the second in proportion to
  g = sum_j c_j / z_j max(s_mate,j - s_first,j, 0): who is strong where the first is weak, and few others are.
- split point: below a random depth the child mixes its parents at a random ratio w, above it at 1 - w.

Departs from the paper: what is mixed are a recipe's numbers, linearly, not the models' weights by SLERP; a
little normal noise is added, which the paper leaves out for language models, since mixing alone never leaves
the corners that the first points span; the first points are the start, known merges and a Latin hypercube;
dimensions of choices take one parent's value. Where losses are not within [0, 1] (negative log-likelihoods),
the score is exp(-loss). An item that a candidate was not asked, because it was given up, scores 0; without
items, each objective counts as one. Niches are of items: losses of several objectives are not looked at
beside them.

Several workers: nothing waits; children are bred from the archive as it is.
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
from mergery.evolve.algorithms.points import fresh, opening, snap

__all__ = ["M2n2", "attraction", "shared_fitness"]

DEFAULT_POPULATION = 15
DEFAULT_SIGMA = 0.1
"""Noise of a child as a share of each range."""

ALPHA = 1.0
"""How hard members compete, as in the released code; 0 would be a plain genetic algorithm."""


class M2n2:
    """Natural niches in the unit cube.

    Args:
        problem: with its start, known points, choices and depths.
        settings: seed, population (the archive's size) and sigma (the noise).
    """

    def __init__(self, problem: Problem, settings: AlgorithmSettings) -> None:
        self._problem = problem
        self._generator = np.random.Generator(np.random.PCG64(settings.seed))
        self._size = max(settings.population or DEFAULT_POPULATION, 2)
        self._sigma = settings.sigma or DEFAULT_SIGMA
        self._opening = opening(problem, self._size, self._generator)
        self._points: list[Point] = []
        self._items: list[NDArray[np.float64]] = []
        self._bounded = True
        self._asked: dict[Point, None] = {}

    @property
    def archive(self) -> tuple[Point, ...]:
        """The members that live now, oldest first."""
        return tuple(self._points)

    def ask(self, count: int = 1, pending: Sequence[Proposal] = ()) -> Sequence[Proposal]:  # noqa: ARG002
        """The first points, then children of the archive."""
        proposals = []
        for _ in range(count):
            proposal = self._opening.pop(0) if self._opening else self._next()
            self._asked[snap(np.array(proposal.point), self._problem)] = None
            proposals.append(proposal)
        return proposals

    def tell(self, proposal: Proposal, outcome: Outcome) -> None:
        """Let a point into the archive; who is then the least fit of too many leaves. Failures stay out."""
        if outcome.failed:
            return
        items = np.array(outcome.items if len(outcome.items) else outcome.losses, dtype=np.float64)
        self._bounded &= bool((items[np.isfinite(items)] <= 1).all())
        self._points.append(proposal.point)
        self._items.append(items)
        if len(self._points) > self._size:
            # of equal ones the newest leaves
            fitness = shared_fitness(self._scores(), ALPHA)[::-1]
            worst = len(fitness) - 1 - int(fitness.argmin())
            del self._points[worst], self._items[worst]

    def _scores(self) -> NDArray[np.float64]:
        """``(archive, items)`` in [0, 1]; 0 for items that were not asked or have no answer."""
        scores = np.zeros((len(self._items), max(map(len, self._items))))
        for row, items in zip(scores, self._items, strict=True):
            row[: len(items)] = 1 - items if self._bounded else np.exp(-items)
        return np.clip(np.nan_to_num(scores), 0, 1)

    def _next(self) -> Proposal:
        """A child of two members of the archive, or a random point if that makes none."""
        child = fresh(self._child, self._asked, self._problem) if len(self._points) > 1 else None
        if child is not None:
            return Proposal(child, "m2n2")
        return Proposal(snap(self._generator.random(self._problem.dimensions), self._problem), "random")

    def _child(self) -> NDArray[np.float64]:
        """Two parents mixed at w below a random depth and at 1 - w above, and noise."""
        generator, size = self._generator, self._problem.dimensions
        one, other = self._parents()
        depths, ratio = _depths(self._problem), generator.random()
        share = np.where(depths < generator.choice(np.unique(depths)), ratio, 1 - ratio)
        child = (1 - share) * one + share * other + self._sigma * generator.normal(size=size)
        chosen = np.array(self._problem.choices or (0,) * size) > 0
        if chosen.any():
            value = np.where(generator.random(size) < share, other, one)
            # noise knows no near values here: it changes this share of them to any
            mutates = generator.random(size) < self._sigma
            child = np.where(chosen, np.where(mutates, generator.random(size), value), child)
        return np.clip(child, 0, 1)

    def _parents(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """One drawn by its fitness, and the mate that it is drawn to."""
        scores = self._scores()
        first = _drawn(shared_fitness(scores, ALPHA), self._generator)
        appeal = attraction(scores, first)
        if not appeal.any():
            # nobody is better anywhere: any other will do
            appeal[np.arange(len(appeal)) != first] = 1
        mate = _drawn(appeal, self._generator)
        return np.array(self._points[first]), np.array(self._points[mate])


def shared_fitness(scores: NDArray[np.float64], alpha: float) -> NDArray[np.float64]:
    """Fitness of each member of an archive where each item's worth is shared by those who solve it.

    Args:
        scores: ``(archive, items)`` in [0, 1].
        alpha: strength of the competition.

    Returns:
        ``(archive,)``: sum over items of s_ij c_j / z_j^alpha (equations 3 and 5).
    """
    total = scores.sum(axis=0)
    # an item that nobody solves is worth nothing
    worth = scores.max(axis=0) / np.where(total > 0, total, 1.0) ** alpha
    fitness: NDArray[np.float64] = scores @ worth
    return fitness


def attraction(scores: NDArray[np.float64], first: int) -> NDArray[np.float64]:
    """How much each member would bring to a first parent: strength on items on which that one is weak.

    Args:
        scores: ``(archive, items)`` in [0, 1].
        first: index of the first parent.

    Returns:
        ``(archive,)``: sum over items of c_j / z_j max(s_mate,j - s_first,j, 0) (equation 4).
    """
    total = scores.sum(axis=0)
    worth = scores.max(axis=0) / np.where(total > 0, total, 1.0)
    appeal: NDArray[np.float64] = np.maximum(scores - scores[first], 0) @ worth
    return appeal


def _drawn(weights: NDArray[np.float64], generator: np.random.Generator) -> int:
    """An index, drawn in proportion to weights; any, if all are 0."""
    total = weights.sum()
    return int(generator.choice(len(weights), p=weights / total if total > 0 else None))


def _depths(problem: Problem) -> NDArray[np.float64]:
    """Where each dimension acts; its own place in their order if they all act at one depth, or who knows."""
    depths = np.array(problem.depths)
    return depths if len(np.unique(depths)) > 1 else np.arange(problem.dimensions, dtype=np.float64)


register_algorithm(
    AlgorithmKind(
        "m2n2",
        ("population", "sigma"),
        M2n2,
        "natural niches: an archive of models that are good at different items",
        several=True,
    )
)
