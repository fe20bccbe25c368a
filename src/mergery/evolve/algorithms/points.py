"""Points that a population is made of: the first ones, and children that nobody has tried yet."""

from __future__ import annotations

from collections.abc import Callable, Container

import numpy as np
from numpy.typing import NDArray

from mergery.evolve.algorithms.api import Point, Problem, Proposal

__all__ = ["fresh", "latin_hypercube", "opening", "snap", "strangers"]

_ATTEMPTS = 100
"""pymoo's number of matings before it gives up breeding something new (J. Blank and K. Deb, IEEE Access 8,
2020)."""


def opening(problem: Problem, size: int, generator: np.random.Generator) -> list[Proposal]:
    """The first generation: the problem's start and known points, each once, then points spread evenly.

    Known merges lie on a few lines through the cube; evenly spread points are therefore at least half of
    ``size``, and ``size`` points are passed if there are many known ones.

    Args:
        problem: whose points they are.
        size: how many to have at least.
        generator: of random numbers.
    """
    named = {problem.start: "start"}
    for name, point in problem.known:
        named.setdefault(point, f"known: {name}")
    spread = latin_hypercube(max(size - len(named), size // 2), problem.dimensions, generator)
    first = [Proposal(point, origin) for point, origin in named.items()]
    return first + [Proposal(snap(row, problem), "latin hypercube") for row in spread]


def strangers(problem: Problem, first: int, count: int, generator: np.random.Generator) -> list[Proposal]:
    """Uniform points; choices, which no gradient moves, are taken in turn.

    Args:
        problem: whose points they are.
        first: how many were drawn before, for the turn.
        count: how many.
        generator: of random numbers.
    """
    found = []
    for number in range(first, first + count):
        point = generator.random(problem.dimensions).tolist()
        for place, values in enumerate(problem.choices):
            if values:
                point[place] = (number % values + 0.5) / values
        found.append(Proposal(tuple(point), "random"))
    return found


def latin_hypercube(count: int, dimensions: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """Points of which each of ``count`` equal slices of every edge holds one.

    M. McKay, R. Beckman and W. Conover, A comparison of three methods for selecting values of input
    variables in the analysis of output from a computer code (Technometrics 21(2), 1979).

    Args:
        count: how many.
        dimensions: of the cube.
        generator: of random numbers.

    Returns:
        ``(count, dimensions)``.
    """
    slices = np.tile(np.arange(count), (dimensions, 1))
    return (generator.permuted(slices, axis=1).T + generator.random((count, dimensions))) / max(count, 1)


def fresh(
    breed: Callable[[], NDArray[np.float64]], known: Container[Point], problem: Problem
) -> Point | None:
    """A child whose candidate is not known yet, or none if a hundred of them are.

    Args:
        breed: makes a child, ``(dimensions,)`` in [0, 1].
        known: snapped points.
        problem: whose points they are.
    """
    children = (snap(breed(), problem) for _ in range(_ATTEMPTS))
    return next((child for child in children if child not in known), None)


def snap(point: NDArray[np.float64], problem: Problem) -> Point:
    """The point, with each dimension of choices in the middle of its value's part of the edge.

    So two points that stand for the same candidate are equal.
    """
    choices = problem.choices or (0,) * problem.dimensions
    return tuple(
        (min(k - 1, int(k * value)) + 0.5) / k if k else value
        for k, value in zip(choices, point.tolist(), strict=True)
    )
