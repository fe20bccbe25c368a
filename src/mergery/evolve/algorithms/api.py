"""What a search algorithm is: points of the unit cube asked for, losses told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from mergery.errors import RecipeError
from mergery.registry import Registry

__all__ = [
    "Algorithm",
    "AlgorithmKind",
    "AlgorithmSettings",
    "Point",
    "algorithm_names",
    "get_algorithm",
    "register_algorithm",
]

Point: TypeAlias = tuple[float, ...]
"""A point of the unit cube; each knob's range is one edge."""


class Algorithm(Protocol):
    """One run of a search algorithm.

    Deterministic: equal settings and equal losses give equal points. A study is continued by asking a
    fresh run the same questions again and telling it the recorded losses, so there is no state to save.
    """

    def ask(self) -> Point:
        """The next point to try, every coordinate in [0, 1]."""
        ...

    def tell(self, point: Point, loss: float) -> None:
        """Report how the point did.

        Args:
            point: as :meth:`ask` gave it; points are told in the order in which they were asked for.
            loss: lower is better; infinite for a candidate that failed.
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
        start: begins a run at a point of the unit cube.
    """

    name: str
    settings: tuple[str, ...]
    start: Callable[[Point, AlgorithmSettings], Algorithm]


_ALGORITHMS: Registry[AlgorithmKind] = Registry(
    "search algorithm",
    "mergery.algorithms",
    ("mergery.evolve.algorithms.cma_es", "mergery.evolve.algorithms.random"),
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
