"""TPE, the tree-structured Parzen estimator: points as in the better trials and unlike the others.

J. Bergstra, R. Bardenet, Y. Bengio and B. Kegl, Algorithms for hyper-parameter optimization (NeurIPS 2011);
computed by Optuna's ``TPESampler`` as it comes (S. Watanabe, arXiv:2304.11127): ten random trials first, then
all dimensions modelled together; for several objectives one by one (Y. Ozaki et al., Multiobjective
tree-structured Parzen estimator, JAIR 73, 2022).

The start is tried first, as an Optuna user enqueues it, and counts among the ten; known points are not used.
A candidate that failed counts as one that violates a constraint: worse than all others.

Several workers: a point that is out counts as a bad one until it is told (Optuna's constant liar).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mergery.evolve.algorithms.api import (
    AlgorithmKind,
    AlgorithmSettings,
    Outcome,
    Point,
    Problem,
    Proposal,
    register_algorithm,
)

if TYPE_CHECKING:
    from optuna import Study, Trial
    from optuna.distributions import BaseDistribution

__all__ = ["Tpe"]


class Tpe:
    """Optuna's TPE in the unit cube.

    Args:
        problem: with its start, choices and objectives.
        settings: seed.
    """

    def __init__(self, problem: Problem, settings: AlgorithmSettings) -> None:
        from optuna.distributions import CategoricalDistribution, FloatDistribution

        self._choices = problem.choices or (0,) * problem.dimensions
        # Optuna sorts the names
        self._names = [f"{place:06d}" for place in range(problem.dimensions)]
        self._edges: dict[str, BaseDistribution] = {
            name: CategoricalDistribution(tuple(range(k))) if k else FloatDistribution(0.0, 1.0)
            for name, k in zip(self._names, self._choices, strict=True)
        }
        self._study = _study(problem.objectives, settings.seed)
        self._study.enqueue_trial(self._params(problem.start))
        self._start: Point | None = problem.start
        self._out: dict[Point, list[Trial]] = {}

    def ask(self, count: int = 1, pending: Sequence[Proposal] = ()) -> Sequence[Proposal]:  # noqa: ARG002
        """The start, random points up to ten trials, then TPE's."""
        proposals = []
        for _ in range(count):
            trial = self._study.ask(self._edges)
            # not the middle of its choices' parts: the start, as it was given
            proposal = Proposal(self._start or self._point(trial), "start" if self._start else "tpe")
            self._start = None
            self._out.setdefault(proposal.point, []).append(trial)
            proposals.append(proposal)
        return proposals

    def tell(self, proposal: Proposal, outcome: Outcome) -> None:
        """Tell the study."""
        trial = self._out[proposal.point].pop(0)
        if outcome.failed:
            trial.set_constraint("failed", 1.0)
        self._study.tell(trial, [0.0] * len(outcome.losses) if outcome.failed else list(outcome.losses))

    def _params(self, point: Point) -> dict[str, float]:
        """Optuna's values at a point."""
        return {
            name: min(k - 1, int(k * value)) if k else value
            for name, k, value in zip(self._names, self._choices, point, strict=True)
        }

    def _point(self, trial: Trial) -> Point:
        """The point of a trial."""
        values = (trial.params[name] for name in self._names)
        return tuple(
            (value + 0.5) / k if k else float(value) for k, value in zip(self._choices, values, strict=True)
        )


def _study(objectives: int, seed: int) -> Study:
    """A study in memory. Optuna announces each on standard error; nobody asked for this one."""
    import optuna

    logger = logging.getLogger("optuna")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        return optuna.create_study(
            directions=["minimize"] * objectives, sampler=optuna.samplers.TPESampler(seed=seed)
        )
    finally:
        logger.setLevel(before)


register_algorithm(
    AlgorithmKind("tpe", (), Tpe, "TPE as in Optuna: points as in the better trials", several=True)
)
