"""Trials in this process, one after the other."""

from __future__ import annotations

import traceback
from collections import deque
from pathlib import Path

from mergery.errors import MergeryError, RecipeError
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
    """Examine one candidate; what is the candidate's fault is a failed job.

    An exception that is none of ours (memory ran out, an evaluator of the user's tripped over an odd answer)
    ends the candidate and not the search: it may be this candidate's alone, and if it is not, the search says
    of what its candidates failed.

    Raises:
        MergeryError: if something is wrong that is not the candidate's fault.
    """
    try:
        if job.batch is not None and job.genome is not None:
            return Finished(job.number, slope=examiner.slope(job.genome, job.batch))
        examined = examiner.examine(job.candidate, job.race.hope if job.race else None)
    except RecipeError as problem:
        return Finished(job.number, failure=problem.message)
    except ArithmeticError as problem:
        return Finished(job.number, failure=str(problem))
    except MergeryError:
        raise
    except Exception as problem:
        return Finished(job.number, failure=_described(problem))
    return Finished(job.number, examined)


def _described(problem: Exception) -> str:
    """What was raised, and where: ``ValueError: no number in '' (judge.py:12)``."""
    text = f"{type(problem).__name__}: {problem}".rstrip(": ")
    last = traceback.extract_tb(problem.__traceback__)[-1]
    return f"{text} ({Path(last.filename).name}:{last.lineno})"
