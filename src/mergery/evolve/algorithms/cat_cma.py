"""CatCMA with margin: CMA-ES for numbers, and a distribution over each choice's values, learnt together.

R. Hamano, S. Saito, M. Nomura, K. Uchida and S. Shirakawa, CatCMA: stochastic optimization for mixed-category
problems (GECCO 2024); with the margin that keeps every value possible, computed by the ``cmaes`` library. For
spaces with choices, as those of paths: which model's layer runs where is a choice, how much it adds a number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from cmaes import CatCMAwM

from mergery.evolve.algorithms.api import (
    AlgorithmKind,
    AlgorithmSettings,
    Outcome,
    Point,
    Problem,
    Proposal,
    register_algorithm,
)

__all__ = ["CatCma"]

DEFAULT_SIGMA = 1 / 6

START_SHARE = 0.7
"""Of the start's value in each choice's first distribution; the others share the rest."""

_TIE = 1e-9
"""Between equal losses of a generation, by whose spread the library divides."""


class CatCma:
    """CatCMA with margin in the unit cube.

    Args:
        problem: whose start is the mean of the first generation, and its most frequent choices.
        settings: seed, population and sigma.
    """

    def __init__(self, problem: Problem, settings: AlgorithmSettings) -> None:
        self._counts = problem.choices or (0,) * problem.dimensions
        self._settings = settings
        self._runs = 0
        self._out: list[tuple[Proposal, CatCMAwM.Solution]] = []
        self._told: list[tuple[CatCMAwM.Solution, float]] = []
        self._cma = self._distribution(problem.start)

    def ask(self, count: int = 1, pending: Sequence[Proposal] = ()) -> Sequence[Proposal]:  # noqa: ARG002
        """Points drawn from the distribution of this generation."""
        return [self._ask() for _ in range(count)]

    def tell(self, proposal: Proposal, outcome: Outcome) -> None:
        """Collect a generation; when it is whole, move the distribution."""
        place = next((at for at, (asked, _) in enumerate(self._out) if asked == proposal), None)
        if place is None:
            return  # of a distribution that is no more
        _, solution = self._out.pop(place)
        self._told.append((solution, outcome.loss))
        if len(self._told) < self._cma.population_size:
            return
        if self._converges():
            self._told = []
            return
        self._runs += 1
        generator = np.random.Generator(np.random.PCG64([self._settings.seed, self._runs]))
        self._cma = self._distribution(tuple(generator.random(len(self._counts)).tolist()))
        self._out, self._told = [], []

    def _converges(self) -> bool:
        """Move the distribution; whether it can still be moved on."""
        try:
            with np.errstate(divide="ignore", invalid="ignore"):
                self._cma.tell(_distinct(self._told))
        except np.linalg.LinAlgError:  # it has shrunk to a point
            return False
        return all(self._counts) or not self._cma.should_stop()

    def _ask(self) -> Proposal:
        solution = self._cma.ask()
        chosen = [] if solution.c is None else np.argmax(solution.c, axis=1).tolist()
        numbers = [] if solution.x is None else solution.x.tolist()
        choices, reals = iter(chosen), iter(numbers)
        point = tuple(
            (next(choices) + 0.5) / count if count else float(min(1.0, max(0.0, next(reals))))
            for count in self._counts
        )
        proposal = Proposal(point, "cat-cma")
        self._out.append((proposal, solution))
        return proposal

    def _distribution(self, start: Point) -> CatCMAwM:
        """A first distribution around a point."""
        reals = [value for value, count in zip(start, self._counts, strict=True) if not count]
        chosen = [
            (min(count - 1, int(count * value)), count)
            for value, count in zip(start, self._counts, strict=True)
            if count
        ]
        shares = np.zeros((len(chosen), max((count for _, count in chosen), default=0)))
        for row, (value, count) in enumerate(chosen):
            shares[row, :count] = (1 - START_SHARE) / max(1, count - 1)
            shares[row, value] = START_SHARE if count > 1 else 1.0
        return CatCMAwM(
            x_space=[[0.0, 1.0]] * len(reals) or None,
            c_space=[count for _, count in chosen] or None,
            mean=np.array(reals) if reals else None,
            sigma=(self._settings.sigma or DEFAULT_SIGMA) if reals else None,
            cat_param=shares if chosen else None,
            population_size=self._settings.population,
            seed=(self._settings.seed + self._runs) % 2**32,
        )


def _distinct(told: list[tuple[CatCMAwM.Solution, float]]) -> list[tuple[CatCMAwM.Solution, float]]:
    """A generation whose losses are finite and differ; failed ones are worse than all others."""
    worst = max((loss for _, loss in told if math.isfinite(loss)), default=0.0)
    return [
        (solution, (loss if math.isfinite(loss) else worst + 1.0) + _TIE * rank)
        for rank, (solution, loss) in enumerate(told)
    ]


register_algorithm(
    AlgorithmKind(
        "cat-cma", ("population", "sigma"), CatCma, "CMA-ES with choices (CatCMA with margin), for paths"
    )
)
