"""How sure a model's score on an exam is, over all tasks and on each: 95 % intervals over the items."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mergery.evaluate.intervals import Interval, bootstrap_mean, paired_bootstrap, wilson
from mergery.evolve.exam import Exam

__all__ = ["score_difference", "score_interval", "task_difference", "task_intervals"]


def score_interval(exam: Exam, outcomes: NDArray[np.float32], first: int = 0) -> Interval:
    """A score: Wilson's interval for one proportion, bootstrap for other means.

    Args:
        exam: what was asked.
        outcomes: ``(n,)`` the answers.
        first: place in the exam of the first item answered.
    """
    if len(exam.sections) == 1:
        return _mean(exam, 0, outcomes)
    return bootstrap_mean(_weighted(exam, outcomes, first))


def score_difference(exam: Exam, one: NDArray[np.float32], other: NDArray[np.float32]) -> Interval:
    """One model's score less another's, on the same items.

    Args:
        exam: what both were asked.
        one: ``(n,)`` outcomes.
        other: ``(n,)`` outcomes.
    """
    return paired_bootstrap(_weighted(exam, one), _weighted(exam, other))


def task_intervals(exam: Exam, outcomes: NDArray[np.float32], first: int = 0) -> tuple[Interval, ...]:
    """Each task's mean outcome.

    Args:
        exam: what was asked.
        outcomes: ``(n,)`` the answers.
        first: place in the exam of the first item answered.
    """
    asked = exam.section_of[first : first + len(outcomes)]
    return tuple(_mean(exam, number, outcomes[asked == number]) for number in range(len(exam.sections)))


def task_difference(
    exam: Exam, number: int, one: NDArray[np.float32], other: NDArray[np.float32]
) -> Interval:
    """One model's mean outcome in a task less another's, on the same items.

    Args:
        exam: what both were asked.
        number: of the task.
        one: ``(n,)`` outcomes of all tasks.
        other: ``(n,)`` outcomes of all tasks.
    """
    asked = exam.section_of == number
    return paired_bootstrap(one[asked], other[asked])


def _mean(exam: Exam, number: int, outcomes: NDArray[np.float32]) -> Interval:
    if exam.sections[number].evaluator.proportion:
        return wilson(int(outcomes.sum()), len(outcomes))
    return bootstrap_mean(outcomes)


def _weighted(exam: Exam, outcomes: NDArray[np.float32], first: int = 0) -> NDArray[np.float64]:
    """Outcomes such that their mean is the score."""
    whole = np.concatenate([np.zeros(first, np.float32), outcomes])
    weighted: NDArray[np.float64] = exam.losses(whole)[first:].astype(np.float64)
    return weighted if exam.direction == "minimize" else -weighted
