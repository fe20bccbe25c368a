"""Trials in this process, one after the other."""

from __future__ import annotations

from collections import deque

from mergery.errors import RecipeError
from mergery.evolve.examiner import Examiner
from mergery.evolve.launchers.api import Finished, Job

__all__ = ["InlineLauncher", "run_job"]


class InlineLauncher:
    """Runs a job when its end is waited for.

    Args:
        examiner: that asks the candidates.
    """

    slots = 1

    def __init__(self, examiner: Examiner) -> None:
        self._examiner = examiner
        self._jobs: deque[Job] = deque()

    def submit(self, job: Job) -> None:
        """Remember a job."""
        self._jobs.append(job)

    def next(self) -> Finished:
        """Run the oldest job."""
        return run_job(self._examiner, self._jobs.popleft())

    def close(self) -> None:
        """Forget what was not run."""
        self._jobs.clear()


def run_job(examiner: Examiner, job: Job) -> Finished:
    """Examine one candidate; what is the candidate's fault is a failed job."""
    try:
        examined = examiner.examine(job.candidate, job.race.hope if job.race else None)
    except RecipeError as problem:
        return Finished(job.number, failure=problem.message)
    except ArithmeticError as problem:
        return Finished(job.number, failure=str(problem))
    return Finished(job.number, examined)
