"""Simulated binary crossover and polynomial mutation: how genetic algorithms vary points of the unit cube.

K. Deb and R. Agrawal, Simulated binary crossover for continuous search space (Complex Systems 9, 1995);
K. Deb and S. Agrawal, A niched-penalty approach for constraint handling in genetic algorithms (ICANNGA 1999).
Both in their form for bounded variables: the distributions are cut off at the cube's walls, so no child has
to be moved back inside. The larger ``eta``, the nearer the child.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["bred", "polynomial_mutation", "simulated_binary_crossover"]

_SHARED = 0.5
"""Share of the variables that a crossover crosses; the others are the first parent's."""

_EQUAL = 1e-14
"""Parents nearer than that have nothing to cross."""


def simulated_binary_crossover(
    one: NDArray[np.float64], other: NDArray[np.float64], generator: np.random.Generator, *, eta: float
) -> NDArray[np.float64]:
    """One child of two points: per variable near one of them, or the first's own value.

    The child's distance from its parent is a share of the parents' distance, so the search narrows as the
    population does.

    Args:
        one: ``(dimensions,)`` in [0, 1].
        other: ``(dimensions,)`` in [0, 1].
        generator: of random numbers.
        eta: distribution index.

    Returns:
        ``(dimensions,)`` in [0, 1].
    """
    crossed = generator.random(len(one)) < _SHARED
    draw, upper = generator.random(len(one)), generator.random(len(one)) < 0.5
    low, high = np.minimum(one, other), np.maximum(one, other)
    distance = high - low
    crossed &= distance > _EQUAL
    distance = np.where(crossed, distance, 1.0)
    # how far the parents lie from the wall on the child's side, in units of their distance
    beta = 1 + 2 * np.where(upper, 1 - high, low) / distance
    alpha = 2 - beta ** -(eta + 1)
    inside = draw * alpha <= 1
    spread = np.where(inside, draw * alpha, 1 / np.where(inside, 1.0, 2 - draw * alpha)) ** (1 / (eta + 1))
    child = 0.5 * (low + high + np.where(upper, 1, -1) * spread * distance)
    return np.where(crossed, np.clip(child, 0, 1), one)


def polynomial_mutation(
    point: NDArray[np.float64], generator: np.random.Generator, *, eta: float, rate: float
) -> NDArray[np.float64]:
    """The point, with some variables moved a little.

    Args:
        point: ``(dimensions,)`` in [0, 1].
        generator: of random numbers.
        eta: distribution index.
        rate: probability that a variable moves.

    Returns:
        ``(dimensions,)`` in [0, 1].
    """
    moved = generator.random(len(point)) < rate
    draw = generator.random(len(point))
    down = draw <= 0.5
    # the share of the distribution that lies beyond the wall on the side to which the variable moves
    beyond = np.where(down, 1 - point, point) ** (eta + 1)
    tail = np.where(down, 2 * draw, 2 * (1 - draw))
    step = 1 - (tail + (1 - tail) * beyond) ** (1 / (eta + 1))
    return np.where(moved, np.clip(point + np.where(down, -step, step), 0, 1), point)


def bred(
    one: NDArray[np.float64],
    other: NDArray[np.float64],
    choices: tuple[int, ...],
    generator: np.random.Generator,
    *,
    crossing: float,
    etas: tuple[float, float],
) -> NDArray[np.float64]:
    """A child of two points: crossed over, then mutated in one variable of it on average.

    A dimension of choices has no near values: it takes either parent's, and mutates to any.

    Args:
        one: ``(dimensions,)`` in [0, 1].
        other: ``(dimensions,)`` in [0, 1].
        choices: as in :class:`~mergery.evolve.algorithms.api.Problem`.
        generator: of random numbers.
        crossing: probability of a crossover; else the child is a mutant of the first parent.
        etas: distribution indices of crossover and mutation.

    Returns:
        ``(dimensions,)`` in [0, 1].
    """
    rate = 1 / len(one)
    chosen = np.array(choices or (0,) * len(one)) > 0
    crosses = generator.random() < crossing
    child = simulated_binary_crossover(one, other, generator, eta=etas[0]) if crosses else one
    child = polynomial_mutation(child, generator, eta=etas[1], rate=rate)
    if not chosen.any():
        return child
    either = np.where(crosses & (generator.random(len(one)) < 0.5), other, one)
    value = np.where(generator.random(len(one)) < rate, generator.random(len(one)), either)
    return np.where(chosen, value, child)
