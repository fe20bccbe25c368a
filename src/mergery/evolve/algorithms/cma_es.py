"""CMA-ES: a normal distribution that moves, grows and turns towards the better half of each generation.

N. Hansen, The CMA evolution strategy: a tutorial (arXiv:1604.00772); computed by the ``cmaes`` library
(Nomura and Shibata, arXiv:2402.01373). Defaults are those of evolutionary model merging (Akiba et al.,
arXiv:2403.13187, Methods): sigma 1/6 of each range, 4 + floor(3 ln n) points a generation.

Several workers: a generation is whatever was told last, as many as its size; while the last of one are still
out, further points are drawn from the same distribution, so nobody waits.

Bounds: ``cmaes`` draws a point outside the cube again, up to 20 times here, and clips the last one; what it
learns from is the point that was tried.
"""

from __future__ import annotations

from collections.abc import Sequence

import cmaes
import numpy as np

from mergery.evolve.algorithms.api import (
    AlgorithmKind,
    AlgorithmSettings,
    Outcome,
    Problem,
    Proposal,
    register_algorithm,
)

__all__ = ["CmaEs"]

DEFAULT_SIGMA = 1 / 6

_REDRAWS = 20
"""With few knobs a point inside is found in a few draws; with a hundred, in none: 100 draws, the library's
default, then cost more than they find (0.6 s a point at 136 knobs)."""

_FAILED = 1e30
"""Loss of a failed candidate: only ranks count, and infinite losses would spoil the stopping criteria."""


class CmaEs:
    """CMA-ES in the unit cube.

    A distribution that has converged (``cmaes.CMA.should_stop``) would only repeat itself; a new one then
    starts from a random mean.

    Args:
        problem: whose start is the mean of the first generation.
        settings: seed, population and sigma.
    """

    def __init__(self, problem: Problem, settings: AlgorithmSettings) -> None:
        self._settings = settings
        self._runs = 0
        self._told: list[tuple[np.ndarray, float]] = []
        self._cma = self._distribution(np.array(problem.start, dtype=np.float64))

    def ask(self, count: int = 1, pending: Sequence[Proposal] = ()) -> Sequence[Proposal]:  # noqa: ARG002
        """Points drawn from the distribution of this generation."""
        return [Proposal(tuple(self._cma.ask().tolist()), "cma-es") for _ in range(count)]

    def tell(self, proposal: Proposal, outcome: Outcome) -> None:
        """Collect a generation; when it is whole, move the distribution."""
        self._told.append((np.array(proposal.point), _FAILED if outcome.failed else outcome.loss))
        if len(self._told) < self._cma.population_size:
            return
        self._cma.tell(self._told)
        self._told = []
        if self._cma.should_stop():
            self._runs += 1
            generator = np.random.Generator(np.random.PCG64([self._settings.seed, self._runs]))
            self._cma = self._distribution(generator.random(self._cma.dim))

    def _distribution(self, mean: np.ndarray) -> cmaes.CMA:
        return cmaes.CMA(
            mean=mean,
            sigma=self._settings.sigma or DEFAULT_SIGMA,
            n_max_resampling=_REDRAWS,
            bounds=np.tile([0.0, 1.0], (len(mean), 1)),
            # one number for one run, as in every implementation; later runs get seeds of their own
            seed=(self._settings.seed + self._runs) % 2**32,
            population_size=self._settings.population,
        )


register_algorithm(
    AlgorithmKind(
        "cma-es", ("population", "sigma"), CmaEs, "CMA-ES as in the paper on evolutionary model merging"
    )
)
