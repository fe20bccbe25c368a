"""The finalists of a search, asked items that it never saw.

The best of many noisy scores is too good: the search picked it for its luck, too. So the best candidates are
asked fresh items, the worse half of them leaving at each rung (sequential halving: Karnin, Koren and
Somekh, ICML 2013); who is best on old and fresh items together wins. The last rung is the winner's alone.

What is claimed of the winner is its mean on the items that it was asked after the last choice, so no choice
can have made it too good. (The best 8 of 100 equally good candidates on 100 fresh items: subtracting a
bootstrap of the choice from the mean over all of them leaves 2.3 points of luck, this leaves none.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mergery.errors import RecipeError
from mergery.evaluate.intervals import Interval, bootstrap_mean, wilson
from mergery.evolve.candidate import Candidate
from mergery.evolve.exam import Exam
from mergery.evolve.examiner import Examiner

__all__ = ["Confirmed", "Finalist", "confirm", "confirm_cost"]


@dataclass(frozen=True, eq=False)
class Finalist:
    """One of the best candidates of a search.

    Attributes:
        number: of its trial.
        candidate: its recipe.
        searched: ``(n,)`` its losses on the items that the search saw.
        confirmed: ``(k,)`` its losses on the first of the items held back.
    """

    number: int
    candidate: Candidate
    searched: NDArray[np.float32]
    confirmed: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))

    @property
    def mean(self) -> float:
        """Mean loss on all items that it was asked."""
        return float(np.concatenate([self.searched, self.confirmed]).mean(dtype=np.float64))


@dataclass(frozen=True, eq=False)
class Confirmed:
    """What is left of a search's claims.

    Attributes:
        winner: number of the winner's trial.
        claim: the winner's score on items that had no part in choosing it, with its 95 % interval.
        finalists: all of them, the best first.
        cost: item evaluations that it took.
    """

    winner: int
    claim: Interval
    finalists: tuple[Finalist, ...]
    cost: int


def confirm(finalists: Sequence[Finalist], examiner: Examiner) -> Confirmed:
    """Ask finalists the items held back, and choose; who gives no finite answer is none of them.

    Args:
        finalists: at least one, none asked yet.
        examiner: that asks the items held back.

    Raises:
        RecipeError: if no finalist can answer.
    """
    able = list(finalists)
    while True:
        try:
            return _halved(able, examiner)
        except _UnableError as unable:
            # the others' answers are in the ledger, so that beginning again costs nothing
            able = [finalist for finalist in able if finalist.number != unable.number]
            if not able:
                raise unable.problem from unable


def confirm_cost(finalists: int, ends: Sequence[int]) -> int:
    """Item evaluations that :func:`confirm` takes for so many finalists and rungs that end there."""
    counts = _counts(finalists, len(ends))
    return sum(count * (end - start) for count, start, end in zip(counts, (0, *ends), ends, strict=False))


def _counts(finalists: int, rungs: int) -> tuple[int, ...]:
    """How many are asked at each rung: half as many each time, and only one at the last."""
    return (*(max(1, finalists >> rung) for rung in range(rungs - 1)), 1)


def _halved(finalists: Sequence[Finalist], examiner: Examiner) -> Confirmed:
    exam, left, gone = examiner.exam, list(finalists), list[Finalist]()
    cost, before, chosen = 0, 0, 0
    for end, count in zip(exam.ends, _counts(len(left), len(exam.ends)), strict=True):
        if count < len(left):
            left.sort(key=lambda finalist: (finalist.mean, finalist.number))
            gone = left[count:] + gone
            left, chosen = left[:count], before
        left = [_asked(finalist, examiner, end) for finalist in left]
        cost += count * (end - before)
        before = end
    (winner,) = left
    return Confirmed(winner.number, _claim(exam, winner.confirmed[chosen:]), (winner, *gone), cost)


def _claim(exam: Exam, losses: NDArray[np.float32]) -> Interval:
    """The score on some of the items."""
    scores = losses.astype(np.float64) * (1.0 if exam.direction == "minimize" else -1.0)
    if len(exam.sections) == 1 and exam.sections[0].evaluator.proportion:
        return wilson(round(scores.sum()), len(scores))
    return bootstrap_mean(scores)


def _asked(finalist: Finalist, examiner: Examiner, end: int) -> Finalist:
    """The finalist with its losses on the first items held back; what was asked before is in the ledger."""
    try:
        examined = examiner.examine(finalist.candidate, lambda losses: len(losses) < end)
    except (RecipeError, ArithmeticError) as problem:
        raise _UnableError(finalist.number, problem) from problem
    losses = examiner.exam.losses(examined.outcomes)
    return Finalist(finalist.number, finalist.candidate, finalist.searched, losses)


class _UnableError(Exception):
    """A finalist cannot answer."""

    def __init__(self, number: int, problem: Exception) -> None:
        super().__init__(str(problem))
        self.number, self.problem = number, problem
