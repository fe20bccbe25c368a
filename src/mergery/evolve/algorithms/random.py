"""Uniform random search: the yardstick for every other algorithm (Bergstra and Bengio, JMLR 13, 2012)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mergery.evolve.algorithms.api import (
    AlgorithmKind,
    AlgorithmSettings,
    Outcome,
    Problem,
    Proposal,
    register_algorithm,
)

__all__ = ["RandomSearch"]


class RandomSearch:
    """Independent uniform points; what it is told changes nothing."""

    def __init__(self, problem: Problem, settings: AlgorithmSettings) -> None:
        self._dimensions = problem.dimensions
        self._generator = np.random.Generator(np.random.PCG64(settings.seed))

    def ask(self, count: int = 1, pending: Sequence[Proposal] = ()) -> Sequence[Proposal]:  # noqa: ARG002
        """Points drawn uniformly."""
        return [
            Proposal(tuple(self._generator.random(self._dimensions).tolist()), "random") for _ in range(count)
        ]

    def tell(self, proposal: Proposal, outcome: Outcome) -> None:
        """Nothing is learnt."""


register_algorithm(AlgorithmKind("random", (), RandomSearch, "independent uniform points, the yardstick"))
