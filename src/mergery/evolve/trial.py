"""One recipe tried, and the progress of a search."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mergery.evaluate import Direction
from mergery.evolve.algorithms.api import Point
from mergery.evolve.space import Genome

__all__ = ["Progress", "Trial", "best_trial", "best_trials"]


@dataclass(frozen=True)
class Trial:
    """One recipe tried.

    Attributes:
        number: from 0, in the order of asking.
        genome: where in the space; ``None`` for a recipe from outside it.
        origin: what proposed it (``cma-es``, ``reference: ties``).
        recipe: digest of its recipe.
        asked_after: how many trials had been told when it was asked for.
        told: its place in the order of telling; ``None`` while it runs.
        score: on the search's items; an estimate if it was given up; the smooth score on its batch if it
            was asked for a gradient; ``None`` if it failed.
        values: each objective's score; empty if it failed.
        items: how many items it was asked.
        whole: whether that is all of them.
        cost: item evaluations spent on it; a gradient counts three.
        gradient: of the smooth loss at its point, where it was asked for.
        failure: why it failed, or ``None``.
        build_seconds: merging it in memory.
        score_seconds: scoring it.
        overhead_seconds: everything else since the trial before: asking, recording, writing.
    """

    number: int
    genome: Genome | None
    origin: str = ""
    recipe: str = ""
    asked_after: int = 0
    told: int | None = None
    score: float | None = None
    values: tuple[float, ...] = ()
    items: int = 0
    whole: bool = False
    cost: int = 0
    gradient: Point | None = None
    failure: str | None = None
    build_seconds: float = 0.0
    score_seconds: float = 0.0
    overhead_seconds: float = 0.0

    def loss(self, direction: Direction) -> float:
        """Lower is better; infinite if it failed."""
        if self.score is None:
            return math.inf
        return -self.score if direction == "maximize" else self.score


@dataclass(frozen=True)
class Progress:
    """Where a search stands.

    Attributes:
        trial: how many trials are done.
        trials: how many there will be; ``None`` if that depends on what they cost.
        spent: item evaluations spent.
        budget: item evaluations to spend; ``None`` for no limit.
        score: of the last trial; ``None`` if it failed.
        best: best score so far; ``None`` if all failed.
        seconds_left: at the pace of this run; ``None`` before its first trial.
        origin: what proposed the last trial.
    """

    trial: int
    trials: int | None
    spent: int
    budget: int | None
    score: float | None
    best: float | None
    seconds_left: float | None
    origin: str = ""

    @property
    def share(self) -> float:
        """How much of the search is done, 0 to 1."""
        done = [0.0]
        if self.trials:
            done.append(self.trial / self.trials)
        if self.budget:
            done.append(self.spent / self.budget)
        return min(1.0, max(done))


def best_trials(trials: Sequence[Trial], direction: Direction, count: int) -> tuple[Trial, ...]:
    """The best whole trials, best first, the earliest of equals; of equal recipes only the first.

    Args:
        trials: in any order.
        direction: which way the score is better.
        count: how many at most.
    """
    whole = [trial for trial in trials if trial.score is not None and trial.whole]
    found: dict[str, Trial] = {}
    for trial in sorted(whole, key=lambda trial: (trial.loss(direction), trial.number)):
        found.setdefault(trial.recipe, trial)
    return tuple(found.values())[:count]


def best_trial(trials: Sequence[Trial], direction: Direction) -> Trial | None:
    """The best whole trial, the earliest of equals; ``None`` if there is none."""
    return next(iter(best_trials(trials, direction, 1)), None)
