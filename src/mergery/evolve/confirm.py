"""The finalists of a search, asked items that it never saw.

The best of many noisy scores is too good: the search picked it for its luck, too. So the best candidates are
asked fresh items, the worse half of them leaving at each rung (sequential halving: Karnin, Koren and
Somekh, ICML 2013), and the winner is who is best on old and fresh items together. What is claimed of it is
its mean on the fresh items alone, less what picking the best of the last few adds, by the bootstrap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mergery.evaluate.intervals import Interval
from mergery.evolve.examiner import Examiner
from mergery.evolve.space import Candidate

__all__ = ["Confirmed", "Finalist", "confirm", "confirm_cost"]

_RESAMPLES = 2000


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
        claim: the winner's score that can be expected on items never seen, with its 95 % interval.
        finalists: all of them, the best first.
        cost: item evaluations that it took.
    """

    winner: int
    claim: Interval
    finalists: tuple[Finalist, ...]
    cost: int


def confirm(finalists: Sequence[Finalist], examiner: Examiner) -> Confirmed:
    """Ask finalists the items held back, and choose.

    Args:
        finalists: at least one, none asked yet.
        examiner: that asks the items held back.

    Raises:
        RecipeError: if a finalist can no longer be built.
    """
    exam, left, gone = examiner.exam, list(finalists), list[Finalist]()
    cost, before = 0, 0
    for rung, end in enumerate(exam.ends):
        left = sorted((_asked(finalist, examiner, end) for finalist in left), key=_rank)
        cost += len(left) * (end - before)
        before = end
        if rung + 1 < len(exam.ends):
            keep = _kept(len(left))
            gone = left[keep:] + gone
            left = left[:keep]
    sign = -1.0 if exam.direction == "maximize" else 1.0
    return Confirmed(left[0].number, _claim(left, sign), (*left, *gone), cost)


def confirm_cost(finalists: int, ends: Sequence[int]) -> int:
    """Item evaluations that :func:`confirm` takes for so many finalists and rungs that end there."""
    cost, before = 0, 0
    for end in ends:
        cost += finalists * (end - before)
        before, finalists = end, _kept(finalists)
    return cost


def _kept(count: int) -> int:
    return max(1, count // 2)


def _asked(finalist: Finalist, examiner: Examiner, end: int) -> Finalist:
    """The finalist with its losses on the first items held back; what was asked before is in the ledger."""
    examined = examiner.examine(finalist.candidate, lambda losses: len(losses) < end)
    losses = examiner.exam.losses(examined.outcomes)
    return Finalist(finalist.number, finalist.candidate, finalist.searched, losses)


def _rank(finalist: Finalist) -> tuple[float, int]:
    return finalist.mean, finalist.number


def _claim(left: Sequence[Finalist], sign: float) -> Interval:
    """The first one's score on the fresh items, less what choosing it among the others adds.

    In each resample of the items the best of them is chosen anew, on old and fresh items together; by how
    much its resampled mean is better than its own mean is what choosing adds.
    """
    fresh = np.stack([finalist.confirmed for finalist in left]).astype(np.float64)  # (finalists, items)
    old = np.array([finalist.searched.sum(dtype=np.float64) for finalist in left])
    generator = np.random.default_rng(0)
    count, means = fresh.shape[1], fresh.mean(axis=1)
    luck, resampled = np.empty(_RESAMPLES), np.empty(_RESAMPLES)
    for number in range(_RESAMPLES):
        drawn = fresh[:, generator.integers(0, count, count)].mean(axis=1)
        chosen = int(np.argmin(old + count * drawn))
        luck[number] = drawn[chosen] - means[chosen]
        resampled[number] = drawn[0] - means[0]
    estimate = means[0] - luck.mean()
    low, high = np.quantile(resampled, [0.025, 0.975])
    ends = sorted((sign * (estimate + low), sign * (estimate + high)))
    return Interval(sign * estimate, *ends)
