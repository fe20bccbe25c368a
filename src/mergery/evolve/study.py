"""The loop: ask, merge, score, record, tell.

A search is continued by replay. Algorithms are deterministic, so a fresh one is asked again for every
recorded trial, gives the same point, is told the recorded outcome, and stands where the killed one stood; no
state is saved beside the trials. With several workers the order in which trials ended is part of the record,
and the replay follows it.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mergery.errors import RecipeError, StudyError
from mergery.evolve.algorithms import Algorithm, Outcome, Proposal
from mergery.evolve.candidate import Candidate
from mergery.evolve.exam import Exam
from mergery.evolve.examiner import Examined
from mergery.evolve.launchers import Finished, Job, Launcher
from mergery.evolve.race import Race
from mergery.evolve.space import Space
from mergery.evolve.trial import Progress, Trial, best_trial

if TYPE_CHECKING:
    from mergery.evolve.record import Record

__all__ = ["Budget", "Reference", "Study"]

GRADIENT_COST = 3
"""Evaluations that one with its gradient counts: a backward pass takes about twice a forward pass."""


@dataclass(frozen=True)
class Budget:
    """When a search ends.

    Attributes:
        items: item evaluations that it may spend; ``None`` for no limit.
        trials: how many recipes it may try; ``None`` for no limit.
    """

    items: int | None = None
    trials: int | None = None


@dataclass(frozen=True)
class Reference:
    """A recipe from outside the space that is tried first.

    Attributes:
        name: what it is (``ties``).
        candidate: the recipe.
    """

    name: str
    candidate: Candidate


class Study:
    """A search while it runs.

    Args:
        space: where to search.
        algorithm: a fresh run of a search algorithm.
        exam: what candidates are asked.
        launcher: where they are asked.
        record: the trials so far.
        recall: what a candidate of the record answered to its first items.
        references: recipes that are tried before the algorithm is asked.
        racing: whether poor candidates are given up.
    """

    def __init__(
        self,
        space: Space,
        algorithm: Algorithm,
        exam: Exam,
        launcher: Launcher,
        record: Record,
        recall: Callable[[Candidate, int], Examined],
        *,
        references: Sequence[Reference] = (),
        racing: bool = False,
    ) -> None:
        self._space, self._algorithm, self._exam = space, algorithm, exam
        self._launcher, self._record, self._recall = launcher, record, recall
        self._references, self._racing = references, racing
        self._trials: list[Trial] = []
        self._pending: dict[int, Proposal] = {}
        self._races: dict[int, Race | None] = {}
        self._stillborn: deque[Finished] = deque()
        self._told = 0
        self._best: NDArray[np.float32] | None = None
        self._full = False

    def run(self, budget: Budget, progress: Callable[[Progress], None] | None = None) -> tuple[Trial, ...]:
        """Try recipes until the budget is spent; what the record holds already counts.

        Args:
            budget: when to end.
            progress: told after every trial.

        Returns:
            All trials, in the order of asking.

        Raises:
            StudyError: if the record is not what this algorithm asks for.
        """
        self._replay()
        left = deque(self._pending)  # out when the run before this one was cut short
        clock = _Clock(self._spent(), len(self._trials) - len(self._pending))
        while True:
            while len(self._pending) - len(left) < self._launcher.slots:
                if left:
                    self._submit(left.popleft())
                elif not self._begin(budget):
                    break
            if not self._pending:
                return tuple(self._trials)
            with clock.waiting():
                finished = self._stillborn.popleft() if self._stillborn else self._launcher.next()
            trial = self._finish(finished, clock)
            if progress:
                progress(self._progress(trial, budget, clock))

    def _replay(self) -> None:
        """Ask and tell what the record holds, in its order."""
        history = self._record.trials()
        ends = sorted((trial for trial in history if trial.told is not None), key=lambda end: end.told or 0)
        for trial in history:
            for end in ends[self._told : trial.asked_after]:
                self._tell(end, self._remembered(end))
            proposal = self._propose(trial.number)
            genome = self._space.decode(proposal.point) if proposal and proposal.point else None
            if proposal is None or (genome, proposal.origin) != (trial.genome, trial.origin):
                raise StudyError(
                    f"trial {trial.number}: recorded at {trial.genome}, asked for at {genome}",
                    fix="continue with the versions of mergery, cmaes, scipy and numpy that began the "
                    "search, or begin anew in another directory",
                )
            self._enter(trial, proposal)
        for end in ends[self._told :]:
            self._tell(end, self._remembered(end))

    def _remembered(self, trial: Trial) -> Examined | None:
        """What a recorded trial answered."""
        if trial.score is None or trial.gradient is not None:
            return None
        return self._recall(self._candidate(trial), trial.items)

    def _propose(self, number: int) -> Proposal | None:
        """What to try next; ``None`` if the algorithm waits for pending trials."""
        if number < len(self._references):
            return Proposal((), f"reference: {self._references[number].name}")
        asked = self._algorithm.ask(1, tuple(out for out in self._pending.values() if out.point))
        return asked[0] if asked else None

    def _may_ask(self, budget: Budget) -> bool:
        if self._full or (budget.trials is not None and len(self._trials) >= budget.trials):
            return False
        if budget.items is None:
            return budget.trials is not None
        return self._left(budget.items) >= len(self._exam)

    def _left(self, items: int) -> int:
        """Item evaluations that are neither spent nor kept for trials that are out."""
        return items - self._spent() - sum(self._price(proposal) for proposal in self._pending.values())

    def _price(self, proposal: Proposal) -> int:
        """Item evaluations that a trial takes at most."""
        if proposal.batch is None:
            return len(self._exam)
        return GRADIENT_COST * sum(len(part.items) for part in self._exam.batch(proposal.batch))

    def _begin(self, budget: Budget) -> bool:
        """Ask for a new trial, write it down and send it out, if there is one and the budget allows it."""
        proposal = self._propose(len(self._trials)) if self._may_ask(budget) else None
        if proposal is None:
            return False
        if budget.items is not None and self._price(proposal) > self._left(budget.items):
            # what was asked for is never forgotten while a search runs: a larger budget asks for it again
            self._full = True
            return False
        genome = self._space.decode(proposal.point) if proposal.point else None
        trial = Trial(len(self._trials), genome, proposal.origin, asked_after=self._told)
        with suppress(RecipeError):  # it fails when it is its turn
            trial = replace(trial, recipe=self._candidate(trial).recipe.digest)
        self._record.begin(trial)
        self._enter(trial, proposal)
        self._submit(trial.number)
        return True

    def _enter(self, trial: Trial, proposal: Proposal) -> None:
        """Take a trial in; its rival is who is best when it is asked for, however often it is sent out."""
        self._trials.append(trial)
        self._pending[trial.number] = proposal
        self._races[trial.number] = Race(self._best) if self._racing else None

    def _submit(self, number: int) -> None:
        proposal = self._pending[number]
        try:
            candidate = self._candidate(self._trials[number])
        except RecipeError as problem:
            self._stillborn.append(Finished(number, failure=problem.message))
        else:
            genome = self._trials[number].genome
            self._launcher.submit(Job(number, candidate, self._races[number], genome, proposal.batch))

    def _candidate(self, trial: Trial) -> Candidate:
        if trial.genome is None:
            return self._references[trial.number].candidate
        return self._space.candidate(trial.genome)

    def _finish(self, finished: Finished, clock: _Clock) -> Trial:
        """Write down a trial's outcome, and tell the algorithm."""
        trial = self._outcome(finished)
        trial = replace(trial, told=self._told, overhead_seconds=clock.overhead(trial, self._launcher.slots))
        self._record.finish(trial)
        self._trials[trial.number] = trial
        self._tell(trial, finished.examined)
        return trial

    def _outcome(self, finished: Finished) -> Trial:
        """The trial with what its job found."""
        trial, examined, slope = self._trials[finished.number], finished.examined, finished.slope
        if slope is not None:
            return replace(
                trial,
                score=slope.loss if self._exam.direction == "minimize" else -slope.loss,
                items=slope.items,
                cost=slope.items * GRADIENT_COST,
                gradient=slope.gradient,
                build_seconds=slope.build_seconds,
                score_seconds=slope.score_seconds,
            )
        if examined is None:
            return replace(trial, failure=finished.failure, cost=self._exam.ends[0])
        asked = len(examined.outcomes)
        values, score = self._exam.values(examined.outcomes), self._exam.score(examined.outcomes)
        if asked < len(self._exam):
            loss = Race(self._best).estimate(self._exam.losses(examined.outcomes))
            score = loss if self._exam.direction == "minimize" else -loss
            values = (score,)
        return replace(
            trial,
            score=score,
            values=values,
            items=asked,
            whole=asked == len(self._exam),
            cost=asked,
            build_seconds=examined.build_seconds,
            score_seconds=examined.score_seconds,
        )

    def _tell(self, trial: Trial, examined: Examined | None) -> None:
        """Tell the algorithm, and keep the best candidate's losses for the race."""
        proposal = self._pending.pop(trial.number)
        del self._races[trial.number]
        self._told += 1
        losses = np.empty(0, np.float32) if examined is None else self._exam.losses(examined.outcomes)
        if trial.whole and (self._best is None or _mean(losses) < _mean(self._best)):
            self._best = losses
        if not proposal.point:
            return
        ways = self._exam.directions
        signed = tuple(-v if way == "maximize" else v for v, way in zip(trial.values, ways, strict=False))
        if trial.gradient is not None:
            loss = trial.loss(self._exam.direction)
            self._algorithm.tell(proposal, Outcome((loss,), smooth=loss, gradient=trial.gradient))
            return
        smooth = math.nan
        if examined is not None and np.isfinite(examined.smooth).all():
            smooth = -_mean(examined.smooth * self._exam.weights[: trial.items])
        self._algorithm.tell(
            proposal, Outcome(signed or (math.inf,) * len(ways), losses, smooth, trial.gradient)
        )

    def _spent(self) -> int:
        return sum(trial.cost for trial in self._trials)

    def _progress(self, trial: Trial, budget: Budget, clock: _Clock) -> Progress:
        done = len(self._trials) - len(self._pending)
        best = best_trial(self._trials, self._exam.direction)
        left = [math.inf]
        if budget.trials is not None:
            left.append((budget.trials - done) * clock.seconds / (done - clock.trials))
        if budget.items is not None:
            fresh = self._spent() - clock.spent
            left.append((budget.items - self._spent()) * clock.seconds / max(1, fresh))
        return Progress(
            trial=done,
            trials=budget.trials,
            spent=self._spent(),
            budget=budget.items,
            score=trial.score,
            best=None if best is None else best.score,
            seconds_left=max(0.0, min(left)),
            origin=trial.origin,
        )


class _Clock:
    """Where a run's time goes.

    Attributes:
        spent: item evaluations that were spent before it.
        trials: trials that had ended before it.
    """

    def __init__(self, spent: int, trials: int) -> None:
        self.spent, self.trials = spent, trials
        self._begin = self._mark = time.perf_counter()
        self._waited = 0.0

    @property
    def seconds(self) -> float:
        """Since the run began."""
        return time.perf_counter() - self._begin

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Time a wait for the workers."""
        begin = time.perf_counter()
        yield
        self._waited = time.perf_counter() - begin

    def overhead(self, trial: Trial, slots: int) -> float:
        """Seconds since the trial before that went neither into workers nor into this trial."""
        now = time.perf_counter()
        working = self._waited if slots > 1 else trial.build_seconds + trial.score_seconds
        spent, self._mark = now - self._mark, now
        return max(0.0, spent - working)


def _mean(values: NDArray[np.float32] | NDArray[np.float64]) -> float:
    return float(values.mean(dtype=np.float64))
