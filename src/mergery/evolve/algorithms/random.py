"""Uniform random search: the yardstick for every other algorithm (Bergstra and Bengio, JMLR 13, 2012)."""

from __future__ import annotations

import numpy as np

from mergery.evolve.algorithms.api import AlgorithmKind, AlgorithmSettings, Point, register_algorithm

__all__ = ["RandomSearch"]


class RandomSearch:
    """Independent uniform points; what it is told changes nothing."""

    def __init__(self, start: Point, settings: AlgorithmSettings) -> None:
        self._dimensions = len(start)
        self._generator = np.random.Generator(np.random.PCG64(settings.seed))

    def ask(self) -> Point:
        """A point drawn uniformly."""
        return tuple(self._generator.random(self._dimensions).tolist())

    def tell(self, point: Point, loss: float) -> None:
        """Nothing is learnt."""


register_algorithm(AlgorithmKind("random", (), RandomSearch))
