"""One recipe tried, and the progress of a search."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mergery.evaluate import Direction
from mergery.evolve.space import Genome

__all__ = ["Progress", "Trial", "best_trial"]


@dataclass(frozen=True)
class Trial:
    """One recipe tried.

    Attributes:
        number: from 0, in the order of trying.
        genome: where in the space.
        score: on the validation items; ``None`` if the candidate failed.
        failure: why it failed, or ``None``.
        recipe: digest of its recipe.
        build_seconds: merging it in memory.
        score_seconds: scoring it.
        overhead_seconds: everything else since the trial before: asking, recording, writing.
    """

    number: int
    genome: Genome
    score: float | None
    failure: str | None
    recipe: str
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
        trials: how many there will be.
        score: of the last trial; ``None`` if it failed.
        best: best score so far; ``None`` if all failed.
        seconds_left: at the pace of this run; ``None`` before its first trial.
    """

    trial: int
    trials: int
    score: float | None
    best: float | None
    seconds_left: float | None


def best_trial(trials: Sequence[Trial], direction: Direction) -> Trial | None:
    """The best trial, the earliest of equals; ``None`` if all failed."""
    done = [trial for trial in trials if trial.score is not None]
    return min(done, key=lambda trial: (trial.loss(direction), trial.number), default=None)
