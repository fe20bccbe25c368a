"""A search played through without models: its real algorithm and its real loop, on a made-up landscape.

How many trials a budget pays for depends on how many are given up, how many are gradients, and what the
algorithm makes of what it is told; how long workers wait depends on when it can propose. So a rehearsal runs
the search itself. Only its candidates are made up: a bowl, for each task, through the scores of a few real
candidates, and noise as between those. A clock of its own counts what they would have taken; the time of the
algorithm and of the loop is real.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mergery.evolve.algorithms import Algorithm, Outcome, Point, Proposal
from mergery.evolve.exam import Exam
from mergery.evolve.examiner import Examined, Slope
from mergery.evolve.launchers import Finished, Job
from mergery.evolve.pace import Pace, Sample, Workshop
from mergery.evolve.record import Record
from mergery.evolve.study import Study
from mergery.evolve.trial import Progress, Trial

if TYPE_CHECKING:
    from mergery.evolve.session import Session

__all__ = ["Landscape", "Rehearsed", "rehearse"]

PATIENCE = 60.0
"""Seconds after which a rehearsal ends; what is left is taken to go on at the same pace."""

RECORDED = 0.015
"""Seconds to write a trial's beginning and its end to a journal, both on the disk before the next step."""

_DISTANCE = 0.2
"""How far the bowl's bottom is from the best candidate that was tried, as a share of each range."""

_GAIN = 0.3
"""How much deeper it is than that one, as a share of how much better that one is than the average."""


@dataclass(frozen=True)
class Rehearsed:
    """How a search went that did not take place.

    Attributes:
        trials: that there would be.
        gradients: how many of them would be gradients.
        given_up: how many would be given up.
        items: item evaluations they would cost.
        whole: how many would be asked all items.
        seconds: that would take.
    """

    trials: int
    gradients: int
    given_up: int
    items: int
    whole: int
    seconds: float


def rehearse(session: Session, workshop: Workshop, done: int = 0) -> Rehearsed:
    """Play a search through.

    Args:
        session: the search, unwritten.
        workshop: what was measured of it.
        done: how many of its trials are done already, and take no time.
    """
    checked = session.checked
    record = Record(
        None,
        "rehearsal",
        directions=checked.exam.directions,
        names=checked.space.names,
        domains=checked.space.domains,
    )
    actor = _Actor(checked.kind.start(checked.problem, checked.spec.search.for_algorithm))
    stage = _Stage(actor, checked.exam, workshop, checked.problem.start, done)
    study = Study(
        checked.space,
        actor,
        checked.exam,
        stage,
        record,
        session.examiner.recall,
        references=checked.references,
        racing=checked.racing,
    )
    share = _Share()
    try:
        trials = study.run(checked.budget, share)
    except _LongEnoughError:
        trials = tuple(trial for trial in record.trials() if trial.told is not None)
    return _scaled(trials, stage.seconds, share.done if share.cut else 1.0)


def _scaled(trials: Sequence[Trial], seconds: float, share: float) -> Rehearsed:
    """What the whole is, if the trials are a share of it."""

    def scaled(count: int) -> int:
        return round(count / share)

    gradients = sum(trial.gradient is not None for trial in trials)
    whole = sum(trial.whole for trial in trials)
    return Rehearsed(
        trials=scaled(len(trials)),
        gradients=scaled(gradients),
        given_up=scaled(len(trials) - gradients - whole),
        items=scaled(sum(trial.cost for trial in trials)),
        whole=scaled(whole),
        seconds=seconds / share,
    )


class Landscape:
    """Made-up losses: one bowl for each task.

    Args:
        exam: what is asked.
        samples: real candidates and their answers.
    """

    def __init__(self, exam: Exam, samples: Sequence[Sample]) -> None:
        self._exam = exam
        self._soft = all(bool(np.isfinite(sample.smooth).all()) for sample in samples)
        self._shares = np.array([section.weight for section in exam.sections])
        self._shares /= self._shares.sum()
        points = np.array([sample.point for sample in samples])
        generator = np.random.default_rng(1)
        targets, floors, slopes, noises = [], [], [], []
        for number, section in enumerate(exam.sections):
            sign = 1.0 if section.evaluator.direction == "minimize" else -1.0
            losses = sign * np.stack([sample.outcomes[exam.section_of == number] for sample in samples])
            means = losses.mean(axis=1, dtype=np.float64)
            best = int(means.argmin())
            step = generator.choice([-_DISTANCE, _DISTANCE], points.shape[1])
            target = np.clip(points[best] + step, 0, 1)
            depth = float(means.mean() - means[best]) or 1e-3
            distance = float(((points - target) ** 2).sum(axis=1).mean())
            targets.append(target)
            floors.append(means[best] - _GAIN * depth)
            slopes.append((1 + _GAIN) * depth / max(distance, 1e-9))
            noises.append(float(np.diff(losses, axis=0).std() / np.sqrt(2)) if len(losses) > 1 else depth)
        self._targets, self._floors = np.array(targets), np.array(floors)
        self._slopes, self._noises = np.array(slopes), np.array(noises)
        self._signs = np.array([1.0 if way == "minimize" else -1.0 for way in _ways(exam)])

    def answers(self, point: Point, number: int) -> NDArray[np.float32]:
        """``(n,)`` the outcomes of the candidate at a point.

        Args:
            point: where.
            number: of its trial, which decides its luck.
        """
        noise = np.random.default_rng([2, number]).normal(size=len(self._exam))
        losses = self._losses(point)[self._exam.section_of] + noise * self._noises[self._exam.section_of]
        outcomes: NDArray[np.float32] = (losses * self._signs[self._exam.section_of]).astype(np.float32)
        return outcomes

    def smooth(self, outcomes: NDArray[np.float32]) -> NDArray[np.float32]:
        """Smooth companions of outcomes, where there are some."""
        signs = self._signs[self._exam.section_of[: len(outcomes)]]
        return (-outcomes * signs if self._soft else np.full_like(outcomes, np.nan)).astype(np.float32)

    def slope(self, point: Point) -> tuple[float, Point]:
        """The weighted mean loss at a point, and its gradient."""
        away = np.array(point) - self._targets
        gradient = 2 * (self._shares * self._slopes) @ away
        return float(self._losses(point) @ self._shares), tuple(gradient.tolist())

    def _losses(self, point: Point) -> NDArray[np.float64]:
        """``(tasks,)`` mean losses."""
        distances = ((np.array(point) - self._targets) ** 2).sum(axis=1)
        losses: NDArray[np.float64] = self._floors + self._slopes * distances
        return losses


class _Actor:
    """An algorithm that lets its last proposal be seen."""

    def __init__(self, algorithm: Algorithm) -> None:
        self._algorithm = algorithm
        self.last: Proposal | None = None

    def ask(self, count: int = 1, pending: Sequence[Proposal] = ()) -> Sequence[Proposal]:
        asked = self._algorithm.ask(count, pending)
        self.last = asked[-1] if asked else self.last
        return asked

    def tell(self, proposal: Proposal, outcome: Outcome) -> None:
        self._algorithm.tell(proposal, outcome)


class _Stage:
    """Answers for candidates at once, and counts what they would have taken on a clock of its own."""

    def __init__(self, actor: _Actor, exam: Exam, workshop: Workshop, start: Point, done: int) -> None:
        self._actor, self._exam, self._start, self._done = actor, exam, start, done
        self._landscape = Landscape(exam, workshop.samples)
        self._pace: Pace = workshop.there
        self.slots = workshop.slots
        self._out: list[tuple[float, int, Finished]] = []
        self._clock, self._mark = 0.0, time.perf_counter()
        self._begun = False

    @property
    def seconds(self) -> float:
        """What has passed."""
        return self._clock

    def submit(self, job: Job) -> None:
        """Work out how a job will end, and when."""
        self._pass()
        if not self._begun and job.number >= self._done:
            self._begun = True
            self._clock += self._pace.begin
        finished, seconds = self._play(job)
        heapq.heappush(self._out, (self._clock + seconds * (job.number >= self._done), job.number, finished))
        self._mark = time.perf_counter()

    def next(self) -> Finished:
        """Wait for the job that ends first."""
        self._pass()
        end, number, finished = heapq.heappop(self._out)
        self._clock = max(self._clock, end) + RECORDED * (number >= self._done)
        self._mark = time.perf_counter()
        return finished

    def close(self) -> None:
        """Nothing is held."""

    def _pass(self) -> None:
        self._clock += time.perf_counter() - self._mark

    def _play(self, job: Job) -> tuple[Finished, float]:
        last = self._actor.last
        point = self._start if job.genome is None or last is None else last.point
        if job.batch is not None:
            loss, gradient = self._landscape.slope(point)
            count = sum(len(part.items) for part in self._exam.batch(job.batch))
            return Finished(job.number, slope=Slope(loss, gradient, count, 0.0, 0.0)), self._pace.slope
        outcomes = self._landscape.answers(point, job.number)
        for end in self._exam.ends:
            if job.race and end < len(self._exam) and not job.race.hope(self._exam.losses(outcomes[:end])):
                break
        asked = outcomes[:end]
        seconds = self._pace.build + end * self._pace.item
        return Finished(job.number, Examined(asked, self._landscape.smooth(asked))), seconds


@dataclass
class _Share:
    """How much of a search has been played; stops it when that takes too long."""

    begin: float = field(default_factory=time.perf_counter)
    done: float = 0.0
    cut: bool = False

    def __call__(self, progress: Progress) -> None:
        self.done = progress.share
        if time.perf_counter() - self.begin > PATIENCE and self.done > 0:
            self.cut = True
            raise _LongEnoughError


class _LongEnoughError(Exception):
    """A rehearsal has shown enough."""


def _ways(exam: Exam) -> Sequence[str]:
    return [section.evaluator.direction for section in exam.sections]
