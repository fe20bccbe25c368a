"""What a search algorithm is: points of the unit cube asked for, outcomes told."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mergery.errors import RecipeError
from mergery.registry import Registry

__all__ = [
    "Algorithm",
    "AlgorithmKind",
    "AlgorithmSettings",
    "Outcome",
    "Point",
    "Problem",
    "Proposal",
    "algorithm_names",
    "get_algorithm",
    "register_algorithm",
]

Point: TypeAlias = tuple[float, ...]
"""A point of the unit cube; each dimension's range is one edge."""


@dataclass(frozen=True)
class Problem:
    """What an algorithm may know of a space.

    Attributes:
        start: where the search begins.
        choices: for every dimension the number of its values, or 0 for a real one; empty if all are real.
            A dimension of k values cuts its edge into k equal parts: ``min(k - 1, int(k * x))``.
        levels: from coarse to fine, each the group of every dimension; dimensions of a group are kept
            equal while a search is at that level. The last has a group for each; empty if there is only
            that one.
        depths: where in the model each dimension acts, 0 at the bottom and 1 at the top; empty if unknown.
        known: points that are worth trying first, each with what it is (``uniform``, ``japanese alone``).
        objectives: how many losses a trial has.
        gradients: whether the gradient of a smooth loss can be asked for.
    """

    start: Point
    choices: tuple[int, ...] = ()
    levels: tuple[tuple[int, ...], ...] = ()
    depths: tuple[float, ...] = ()
    known: tuple[tuple[str, Point], ...] = ()
    objectives: int = 1
    gradients: bool = False

    @property
    def dimensions(self) -> int:
        """How many numbers a point has."""
        return len(self.start)


@dataclass(frozen=True)
class Proposal:
    """A point to try.

    Attributes:
        point: every coordinate in [0, 1].
        origin: what proposed it, in a word or two, for the record (``ladder: uniform``, ``gp``).
        batch: if not ``None``, no score is wanted but the gradient of the smooth loss, on the batch of items
            of this number (any whole number: they are counted around). An item then costs three evaluations.
    """

    point: Point
    origin: str = ""
    batch: int | None = None


@dataclass(frozen=True, eq=False)
class Outcome:
    """How a proposal did. Losses: lower is better.

    Attributes:
        losses: one for every objective; infinite for a candidate that failed.
        items: ``(n,)`` its loss on each item that it was asked, in an order common to all trials; a
            candidate that was given up early has fewer. Empty if it failed, or was asked for its gradient.
        smooth: mean over these items of a smooth companion of the loss (minus the answers' probability); NaN
            if there is none.
        gradient: of the smooth loss on one batch with respect to the point, where that was asked for;
            ``losses`` and ``smooth`` then are that loss.
    """

    losses: tuple[float, ...]
    items: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))
    smooth: float = math.nan
    gradient: Point | None = None

    @property
    def loss(self) -> float:
        """The mean of the objectives."""
        return sum(self.losses) / len(self.losses)

    @property
    def failed(self) -> bool:
        """Whether there is no loss to learn from."""
        return not all(map(math.isfinite, self.losses))


class Algorithm(Protocol):
    """One run of a search algorithm.

    Deterministic: equal settings, and equal calls of ``ask`` and ``tell`` in the same order, give equal
    proposals. A study is continued by asking a fresh run the same questions again and telling it the recorded
    outcomes, so there is no state to save.
    """

    def ask(self, count: int = 1, pending: Sequence[Proposal] = ()) -> Sequence[Proposal]:
        """The next points to try.

        Args:
            count: how many are wanted, at least 1.
            pending: asked for before, and not told yet.

        Returns:
            ``count`` proposals, or fewer if the algorithm has to be told of pending ones before it can
            propose more; at least one if nothing is pending.
        """
        ...

    def tell(self, proposal: Proposal, outcome: Outcome) -> None:
        """Report how a proposal did; proposals may be told in any order, each once.

        Args:
            proposal: as :meth:`ask` gave it.
            outcome: how it did.
        """
        ...


@dataclass(frozen=True)
class AlgorithmSettings:
    """What an algorithm may be told beforehand.

    Attributes:
        seed: of its random numbers, 0 to 2³² - 1.
        population: points a generation; its own choice if ``None``.
        sigma: first standard deviation as a share of each knob's range; its own choice if ``None``.
    """

    seed: int = 0
    population: int | None = None
    sigma: float | None = None


@dataclass(frozen=True)
class AlgorithmKind:
    """A registered algorithm.

    Attributes:
        name: as search files write it.
        settings: which of ``population`` and ``sigma`` it takes.
        start: begins a run.
        summary: one line for people.
        several: whether it searches for a front of several objectives; others see their mean.
        frugal: whether its searches begin with plain merges and give poor candidates up, unless they say
            otherwise.
        gradients: whether it cannot do without gradients.
    """

    name: str
    settings: tuple[str, ...]
    start: Callable[[Problem, AlgorithmSettings], Algorithm]
    summary: str = ""
    several: bool = False
    frugal: bool = False
    gradients: bool = False


_ALGORITHMS: Registry[AlgorithmKind] = Registry(
    "search algorithm",
    "mergery.algorithms",
    (
        "mergery.evolve.algorithms.cma_es",
        "mergery.evolve.algorithms.random",
        "mergery.evolve.algorithms.genetic",
        "mergery.evolve.algorithms.gp",
        "mergery.evolve.algorithms.tpe",
        "mergery.evolve.algorithms.nsga2",
        "mergery.evolve.algorithms.m2n2",
        "mergery.evolve.algorithms.cat_cma",
        "mergery.evolve.algorithms.gradient",
        "mergery.evolve.algorithms.staged",
    ),
    RecipeError,
)


def register_algorithm(kind: AlgorithmKind) -> AlgorithmKind:
    """Make an algorithm known under its name."""
    _ALGORITHMS.add(kind.name, kind)
    return kind


def get_algorithm(name: str, *, where: str = "search.algorithm") -> AlgorithmKind:
    """The algorithm registered under ``name``; a RecipeError naming the near miss if there is none."""
    return _ALGORITHMS.get(name, where=where)


def algorithm_names() -> tuple[str, ...]:
    """All registered algorithms."""
    return tuple(_ALGORITHMS)
