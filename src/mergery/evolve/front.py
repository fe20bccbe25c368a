"""The front of a search for several objectives, on items that it never saw, and what is picked from it.

Of many noisy candidates, those that no other beats in every objective are good and lucky. So the front's
members are asked the items held back; who is beaten there leaves, and one of those that stay is picked by how
much each objective matters (:func:`mergery.evolve.algorithms.pareto.pick`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mergery.evaluate.intervals import Interval
from mergery.evolve.algorithms.pareto import crowding_distance, front_indices, pick
from mergery.evolve.confirm import Confirmed, Finalist
from mergery.evolve.exam import Exam
from mergery.evolve.examiner import Examiner
from mergery.evolve.space import Candidate
from mergery.evolve.trial import Trial

__all__ = ["Entrant", "Front", "confirm_front", "front_of", "spread"]

_RESAMPLES = 2000


@dataclass(frozen=True, eq=False)
class Entrant:
    """One of the candidates that no other beats.

    Attributes:
        trial: that tried it.
        candidate: its recipe.
        searched: ``(n,)`` its outcomes on the items that the search saw.
        confirmed: ``(k,)`` its outcomes on the items held back; ``None`` if none were.
    """

    trial: Trial
    candidate: Candidate
    searched: NDArray[np.float32]
    confirmed: NDArray[np.float32] | None = None


@dataclass(frozen=True, eq=False)
class Front:
    """What a search for several objectives found.

    Attributes:
        members: those that no other beats, the best in the first objective first.
        picked: which of them is the search's result.
        left: those that others beat on the items held back.
        confirmed: what is left of the picked one's score there; ``None`` if no items were held back.
        claims: the same for each objective.
    """

    members: tuple[Entrant, ...]
    picked: int
    left: tuple[Entrant, ...] = ()
    confirmed: Confirmed | None = None
    claims: tuple[Interval, ...] = ()


def front_of(trials: Sequence[Trial], exam: Exam) -> tuple[Trial, ...]:
    """The whole trials that no other beats in every objective; of equal ones the earliest.

    Args:
        trials: in the order of asking.
        exam: what they were asked.
    """
    whole = [trial for trial in trials if trial.score is not None and trial.whole and trial.gradient is None]
    first = {trial.values: trial for trial in reversed(whole)}
    different = sorted(first.values(), key=lambda trial: trial.number)
    if not different:
        return ()
    return tuple(different[place] for place in front_indices(_losses(different, exam)))


def spread(
    trials: Sequence[Trial], exam: Exam, count: int, preference: Sequence[float] | None
) -> tuple[Trial, ...]:
    """So many of a front's members, far from each other; the one that is preferred stays.

    The most crowded leaves, one after the other: leaving together, two neighbours would leave a gap.

    Args:
        trials: the front.
        exam: what they were asked.
        count: how many may stay.
        preference: how much each objective matters; equally, if ``None``.
    """
    left = list(trials)
    if not left:
        return ()
    preferred = left[pick(_losses(left, exam), preference)]
    while len(left) > count:
        crowding = crowding_distance(_losses(left, exam))
        crowding[left.index(preferred)] = np.inf
        # of equally lonely ones the latest leaves, but never the one that is preferred
        places = [place for place in range(len(left)) if left[place] is not preferred]
        del left[min(places, key=lambda place: (crowding[place], -left[place].number))]
    return tuple(left)


def confirm_front(
    entrants: Sequence[Entrant], exam: Exam, examiner: Examiner | None, preference: Sequence[float] | None
) -> Front:
    """Ask a front's members the items held back, and pick one of those that nobody beats there.

    Args:
        entrants: at least one.
        exam: what the search asked.
        examiner: that asks the items held back; ``None`` if there are none.
        preference: how much each objective matters; equally, if ``None``.

    Raises:
        RecipeError: if a member can no longer be built.
    """
    if examiner is None:
        losses = np.array([_signed(entrant.searched, exam) for entrant in entrants])
        return _picked(entrants, losses, preference)
    asked = [
        Entrant(old.trial, old.candidate, old.searched, examiner.examine(old.candidate).outcomes)
        for old in entrants
    ]
    fresh = [entrant.confirmed for entrant in asked if entrant.confirmed is not None]
    front = _picked(asked, np.array([_signed(outcomes, examiner.exam) for outcomes in fresh]), preference)
    chosen = front.members[front.picked]
    total, claims = _claims(fresh, asked.index(chosen), examiner.exam, preference)
    best_first = (chosen, *(entrant for entrant in (*front.members, *front.left) if entrant is not chosen))
    finalists = [
        Finalist(
            entrant.trial.number,
            entrant.candidate,
            exam.losses(entrant.searched),
            examiner.exam.losses(entrant.confirmed),
        )
        for entrant in best_first
        if entrant.confirmed is not None
    ]
    cost = len(asked) * len(examiner.exam)
    confirmed = Confirmed(chosen.trial.number, total, tuple(finalists), cost)
    return Front(front.members, front.picked, front.left, confirmed, claims)


def _picked(
    entrants: Sequence[Entrant], losses: NDArray[np.float64], preference: Sequence[float] | None
) -> Front:
    """The front of these losses, ``(entrants, objectives)``, and what is picked from it."""
    places = sorted(front_indices(losses), key=lambda place: (*losses[place], entrants[place].trial.number))
    members = tuple(entrants[place] for place in places)
    left = tuple(entrant for entrant in entrants if all(entrant is not member for member in members))
    return Front(members, pick(losses[places], preference), left)


def _claims(
    fresh: Sequence[NDArray[np.float32]], chosen: int, exam: Exam, preference: Sequence[float] | None
) -> tuple[Interval, tuple[Interval, ...]]:
    """The picked one's score and its objectives', less what picking it among the others adds.

    In each resample of the items the front is made and picked from anew; by how much the resampled means of
    the picked are better than its own is what picking adds.
    """
    generator, resampled = np.random.default_rng(0), []
    for number, section in enumerate(exam.sections):
        sign = 1.0 if section.evaluator.direction == "minimize" else -1.0
        losses = sign * np.stack([outcomes[exam.section_of == number] for outcomes in fresh])
        count = losses.shape[1]
        drawn = generator.multinomial(count, np.full(count, 1 / count), size=_RESAMPLES)
        resampled.append(drawn @ losses.T.astype(np.float64) / count)
    means = np.array([_signed(outcomes, exam) for outcomes in fresh])  # (entrants, objectives)
    drawn_means = np.stack(resampled, axis=2)  # (resamples, entrants, objectives)
    luck = np.zeros_like(means[0])
    for sample in drawn_means:
        front = front_indices(sample)
        place = front[pick(sample[front], preference)]
        luck += (sample[place] - means[place]) / _RESAMPLES
    shares = np.array([section.weight for section in exam.sections])
    shares /= shares.sum()
    spreads = drawn_means[:, chosen] - means[chosen]
    claims = [
        _interval(means[chosen, number] - luck[number], spreads[:, number], way)
        for number, way in enumerate(exam.directions)
    ]
    total = _interval(float((means[chosen] - luck) @ shares), spreads @ shares, exam.direction)
    return total, tuple(claims)


def _interval(loss: float, spread: NDArray[np.float64], way: str) -> Interval:
    """A loss with its resampled deviations, as a score."""
    sign = 1.0 if way == "minimize" else -1.0
    low, high = np.quantile(spread, [0.025, 0.975])
    return Interval(sign * loss, *sorted((sign * (loss + low), sign * (loss + high))))


def _signed(outcomes: NDArray[np.float32], exam: Exam) -> tuple[float, ...]:
    """Each objective's loss."""
    ways = zip(exam.means(outcomes), exam.directions, strict=True)
    return tuple(value if way == "minimize" else -value for value, way in ways)


def _losses(trials: Sequence[Trial], exam: Exam) -> NDArray[np.float64]:
    """``(trials, objectives)``."""
    signs = np.array([1.0 if way == "minimize" else -1.0 for way in exam.directions])
    losses: NDArray[np.float64] = np.array([trial.values for trial in trials]) * signs
    return losses
