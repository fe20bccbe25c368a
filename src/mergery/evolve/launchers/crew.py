"""Workers outside this process, each with its own copy of the models: who is free, late or gone."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import ClassVar, Generic, Protocol, Self, TypeVar

from mergery.errors import WorkerError
from mergery.evolve.examiner import Examiner
from mergery.evolve.launchers.api import Finished, Job
from mergery.evolve.launchers.worker import Task

__all__ = ["Crew", "Gone", "Worker"]


class Gone(Exception):  # noqa: N818 - of a worker, not of the program
    """A worker has ended; the text says how (``was killed by SIGKILL``)."""


class Worker(Protocol):
    """One worker, as those who send it tasks see it. It begins to open the models when it is made."""

    def begin(self, task: Task) -> None:
        """Send it a task; it has opened the models and does nothing else.

        Raises:
            Gone: if it has ended.
        """
        ...

    def answer(self) -> Finished | None:
        """What it has to say; asked only when it has something to say.

        Returns:
            How its task ended; ``None`` when the models are open.

        Raises:
            Gone: if it has ended.
            MergeryError: if something is wrong that is not the candidate's fault.
        """
        ...

    def end(self) -> None:
        """End it at once, whatever it is doing."""
        ...


W = TypeVar("W", bound=Worker)


@dataclass(eq=False)
class _Post(Generic[W]):
    """A worker's place.

    Attributes:
        number: of the place.
        worker: who is there.
        ready: whether it has opened the models.
        job: what it is doing.
        deadline: when that must have ended, on the monotonic clock.
    """

    number: int
    worker: W
    ready: bool = False
    job: Job | None = None
    deadline: float = math.inf


class Crew(ABC, Generic[W]):
    """Runs jobs by workers. A context manager.

    Workers are begun when there is something to do, and again in place of those that ended or hung: what they
    were doing has failed. What they answer is put into the ledger here, before it is handed on.

    Args:
        examiner: whose ledger says what need not be asked again, and keeps what is answered.
        slots: how many workers there may be.
        timeout: seconds after which a candidate that hangs has failed; ``None`` waits for ever.
    """

    advice: ClassVar[str]
    """What to do if a worker ends before it has opened the models."""

    def __init__(self, examiner: Examiner, slots: int, timeout: float | None) -> None:
        self._examiner = examiner
        self._slots = slots
        self._timeout = timeout
        self._jobs: deque[Job] = deque()
        self._posts: list[_Post[W]] = []
        self._ended: deque[Finished] = deque()

    @abstractmethod
    def _hire(self, number: int) -> W:
        """Begin a worker at one of the places, 0 to ``slots - 1``."""

    @abstractmethod
    def _wait(self, workers: Sequence[W], seconds: float | None) -> Sequence[W]:
        """Wait until some of the workers have something to say, no longer than that, and return those."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def slots(self) -> int:
        """How many run at the same time."""
        return self._slots

    def submit(self, job: Job) -> None:
        """Give a job to a worker that is free, or as soon as one is."""
        self._jobs.append(job)
        self._deal()

    def next(self) -> Finished:
        """Wait until a job ends, and say how.

        Raises:
            WorkerError: if a worker ended before it had opened the models.
            MergeryError: if something is wrong that is not the candidate's fault.
        """
        while not self._ended:
            soonest = min((post.deadline for post in self._posts), default=math.inf)
            left = None if soonest == math.inf else max(0.0, soonest - time.monotonic())
            heard = self._wait([post.worker for post in self._posts], left)
            now = time.monotonic()
            for post in tuple(self._posts):
                if any(post.worker is worker for worker in heard):
                    self._hear(post)
                elif post.deadline <= now:
                    self._lose(post, f"no end within {self._timeout:g} s (search.timeout)")
            self._deal()
        return self._ended.popleft()

    def close(self) -> None:
        """End all workers, and forget what was not done."""
        self._jobs.clear()
        self._ended.clear()
        while self._posts:
            self._posts.pop().worker.end()

    def _deal(self) -> None:
        """Give jobs to those who are free; call more workers if there is room."""
        for post in tuple(self._posts):
            if self._jobs and post.ready and post.job is None:
                self._begin(post, self._jobs.popleft())
        opening = sum(not post.ready for post in self._posts)
        for number in range(self._slots):
            if opening < len(self._jobs) and all(post.number != number for post in self._posts):
                self._posts.append(_Post(number, self._hire(number)))
                opening += 1

    def _begin(self, post: _Post[W], job: Job) -> None:
        try:
            post.worker.begin(Task(job, self._examiner.known(job.candidate)))
        except Gone:  # while it had nothing to do
            self._dismiss(post)
            self._jobs.appendleft(job)
            return
        post.job = job
        post.deadline = math.inf if self._timeout is None else time.monotonic() + self._timeout

    def _hear(self, post: _Post[W]) -> None:
        """Take what a worker has to say."""
        try:
            finished = post.worker.answer()
        except Gone as gone:
            if not post.ready:
                raise WorkerError(
                    f"a worker ended before it had opened the models: it {gone}", fix=self.advice
                ) from gone
            self._lose(post, f"its worker {gone}")
            return
        if finished is None:
            post.ready = True
            return
        if post.job is not None and finished.examined is not None:
            self._examiner.keep(post.job.candidate, finished.examined)
        post.job, post.deadline = None, math.inf
        self._ended.append(finished)

    def _lose(self, post: _Post[W], failure: str) -> None:
        """A worker is of no use any more, and what it did has failed."""
        self._dismiss(post)
        if post.job is not None:
            self._ended.append(Finished(post.job.number, failure=failure))

    def _dismiss(self, post: _Post[W]) -> None:
        self._posts.remove(post)
        post.worker.end()
