"""The front of a search for several objectives, on items that it never saw, and what is picked from it.

Of many noisy candidates, those that no other beats in every objective are good and lucky. So the front's
members are asked the first half of the items held back; who is beaten on these and the old ones together
leaves, and one of those that stay is picked by how much each objective matters
(:func:`mergery.evolve.algorithms.pareto.pick`). Then those that stay are asked the second half, which nothing
is chosen by: what is claimed of them is what they score there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mergery.errors import RecipeError
from mergery.evaluate import Direction
from mergery.evaluate.intervals import Interval
from mergery.evolve.algorithms.pareto import crowding_distance, front_indices, pick
from mergery.evolve.candidate import Candidate
from mergery.evolve.confirm import Confirmed, Finalist
from mergery.evolve.exam import Exam
from mergery.evolve.examiner import Examiner
from mergery.evolve.sureness import score_interval, task_intervals
from mergery.evolve.trial import Trial

__all__ = ["Entrant", "Front", "confirm_front", "front_cost", "front_of", "spread"]


@dataclass(frozen=True, eq=False)
class Entrant:
    """One of the candidates that no other beats.

    Attributes:
        trial: that tried it.
        candidate: its recipe.
        searched: ``(n,)`` its outcomes on the items that the search saw.
        confirmed: ``(k,)`` its outcomes on the last of the items held back, by which nothing was chosen;
            ``None`` if it was not asked them.
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
        left: those that others beat when more items had been asked.
        confirmed: the picked one's score on items by which nothing was chosen; ``None`` without such.
        claims: the same for each objective.
    """

    members: tuple[Entrant, ...]
    picked: int
    left: tuple[Entrant, ...] = ()
    confirmed: Confirmed | None = None
    claims: tuple[Interval, ...] = ()


def front_of(trials: Sequence[Trial], directions: Sequence[Direction]) -> tuple[Trial, ...]:
    """The whole trials that no other beats in every objective; of equal ones the earliest.

    Args:
        trials: in the order of asking.
        directions: which way each objective's score is better.
    """
    whole = [trial for trial in trials if trial.score is not None and trial.whole and trial.gradient is None]
    first = {trial.values: trial for trial in reversed(whole)}
    different = sorted(first.values(), key=lambda trial: trial.number)
    if not different:
        return ()
    return tuple(different[place] for place in front_indices(_losses(different, directions)))


def spread(
    trials: Sequence[Trial],
    directions: Sequence[Direction],
    count: int,
    preference: Sequence[float] | None,
) -> tuple[Trial, ...]:
    """So many of a front's members, far from each other; the one that is preferred stays.

    The most crowded leaves, one after the other: leaving together, two neighbours would leave a gap.

    Args:
        trials: the front.
        directions: which way each objective's score is better.
        count: how many may stay.
        preference: how much each objective matters; equally, if ``None``.
    """
    left = list(trials)
    if not left:
        return ()
    preferred = left[pick(_losses(left, directions), preference)]
    while len(left) > count:
        crowding = crowding_distance(_losses(left, directions))
        crowding[left.index(preferred)] = np.inf
        # of equally lonely ones the latest leaves, but never the one that is preferred
        places = [place for place in range(len(left)) if left[place] is not preferred]
        del left[min(places, key=lambda place: (crowding[place], -left[place].number))]
    return tuple(left)


def confirm_front(
    entrants: Sequence[Entrant], exam: Exam, examiner: Examiner | None, preference: Sequence[float] | None
) -> Front:
    """Ask a front's members the items held back, and pick one of those that nobody beats.

    Args:
        entrants: at least one; who gives no finite answer is none of them.
        exam: what the search asked.
        examiner: that asks the items held back; ``None`` if there are none.
        preference: how much each objective matters; equally, if ``None``.

    Raises:
        RecipeError: if no member can answer.
    """
    if examiner is None:
        return _chosen(entrants, [exam.means(entrant.searched) for entrant in entrants], exam, preference)
    able = list(entrants)
    while True:
        try:
            return _confirmed(able, exam, examiner, preference)
        except _UnableError as unable:
            # the others' answers are in the ledger, so that beginning again costs nothing
            able = [entrant for entrant in able if entrant is not unable.entrant]
            if not able:
                raise unable.problem from unable


def front_cost(finalists: int, ends: Sequence[int]) -> int:
    """Item evaluations that :func:`confirm_front` takes at most."""
    return finalists * ends[-1]


def _confirmed(
    entrants: Sequence[Entrant], exam: Exam, examiner: Examiner, preference: Sequence[float] | None
) -> Front:
    """Choose on old items and on the first of the items held back; claim on the rest of those."""
    fresh, chosen_at = examiner.exam, examiner.exam.ends[0]
    first = [_answers(entrant, examiner, chosen_at) for entrant in entrants]
    pairs = zip(entrants, first, strict=True)
    means = [_together(exam, entrant.searched, fresh, answers) for entrant, answers in pairs]
    front = _chosen(entrants, means, exam, preference)
    all_answers = [_answers(member, examiner, len(fresh)) for member in front.members]
    members = tuple(
        replace(member, confirmed=answers[chosen_at:])
        for member, answers in zip(front.members, all_answers, strict=True)
    )
    answers = all_answers[front.picked]
    claims = task_intervals(fresh, answers[chosen_at:], chosen_at)
    cost = len(entrants) * chosen_at + len(members) * (len(fresh) - chosen_at)
    picked = members[front.picked]
    finalist = Finalist(
        picked.trial.number, picked.candidate, exam.losses(picked.searched), fresh.losses(answers)
    )
    total = score_interval(fresh, answers[chosen_at:], chosen_at)
    confirmed = Confirmed(picked.trial.number, total, (finalist,), cost)
    return Front(members, front.picked, front.left, confirmed, claims)


def _answers(entrant: Entrant, examiner: Examiner, end: int) -> NDArray[np.float32]:
    try:
        return examiner.examine(entrant.candidate, lambda losses: len(losses) < end).outcomes
    except (RecipeError, ArithmeticError) as problem:
        raise _UnableError(entrant, problem) from problem


def _together(
    old: Exam, searched: NDArray[np.float32], fresh: Exam, answers: NDArray[np.float32]
) -> tuple[float, ...]:
    """Each task's mean over the items of two exams."""
    counts = [
        np.bincount(exam.section_of[: len(outcomes)], minlength=len(exam.sections))
        for exam, outcomes in ((old, searched), (fresh, answers))
    ]
    means = np.nan_to_num([old.means(searched), fresh.means(answers)])
    sums = means[0] * counts[0] + means[1] * counts[1]
    return tuple((sums / (counts[0] + counts[1])).tolist())


def _chosen(
    entrants: Sequence[Entrant],
    means: Sequence[tuple[float, ...]],
    exam: Exam,
    preference: Sequence[float] | None,
) -> Front:
    """The front of these means, one for each task, and what is picked from it."""
    losses = np.array(means) * _signs(exam.directions)
    places = sorted(front_indices(losses), key=lambda place: (*losses[place], entrants[place].trial.number))
    members = tuple(entrants[place] for place in places)
    left = tuple(entrant for entrant in entrants if all(entrant is not member for member in members))
    return Front(members, pick(losses[places], preference), left)


class _UnableError(Exception):
    """A member cannot answer."""

    def __init__(self, entrant: Entrant, problem: Exception) -> None:
        super().__init__(str(problem))
        self.entrant, self.problem = entrant, problem


def _losses(trials: Sequence[Trial], directions: Sequence[Direction]) -> NDArray[np.float64]:
    """``(trials, objectives)``."""
    losses: NDArray[np.float64] = np.array([trial.values for trial in trials]) * _signs(directions)
    return losses


def _signs(directions: Sequence[Direction]) -> NDArray[np.float64]:
    return np.array([1.0 if way == "minimize" else -1.0 for way in directions])
