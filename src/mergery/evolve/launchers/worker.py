"""What a worker does, wherever it is: it opens the models once, and examines one candidate after another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from mergery.errors import MergeryError, WorkerError
from mergery.evolve.examiner import Examined, Examiner
from mergery.evolve.launchers.api import Finished, Job
from mergery.evolve.launchers.inline import run_job
from mergery.evolve.ledger import Ledger

__all__ = ["Desk", "OpenExaminer", "Place", "Task", "open_desk"]


@dataclass(frozen=True)
class Place:
    """Where a worker computes.

    Attributes:
        device: ``cpu``, ``cuda:1``.
        threads: that an operation on tensors may use.
    """

    device: str
    threads: int = 1


OpenExaminer: TypeAlias = Callable[[Place, Ledger], Examiner]
"""Opens the models at a place, with a ledger of the worker's own; it travels to the worker by pickle."""


@dataclass(frozen=True, eq=False)
class Task:
    """A job on its way to a worker.

    Attributes:
        job: what to do.
        known: what the candidate has answered before, which need not be asked again.
    """

    job: Job
    known: Examined


class Desk:
    """A worker's own copy of the models.

    It knows of earlier answers what its tasks bring, and those who send tasks keep what comes back: so there
    is one who writes to the search's ledger, and workers may be on machines that do not see it.

    Args:
        open_examiner: opens the models.
        place: where it is.

    Raises:
        MergeryError: if they cannot be opened.
    """

    def __init__(self, open_examiner: OpenExaminer, place: Place) -> None:
        self._notes = Ledger()
        self._examiner = open_examiner(place, self._notes)

    def work(self, task: Task) -> Finished | MergeryError:
        """Examine one candidate.

        Returns:
            How it ended; or what is wrong, if that is not the candidate's fault.
        """
        self._notes.clear()
        self._examiner.keep(task.job.candidate, task.known)
        try:
            return run_job(self._examiner, task.job)
        except MergeryError as problem:
            return problem


def open_desk(read: Callable[[], OpenExaminer], place: Place) -> Desk | MergeryError:
    """Open the models in a worker.

    Args:
        read: gives what opens them, as it came from the process that wants them opened.
        place: where the worker is.

    Returns:
        The desk; or why there is none.
    """
    try:
        return Desk(read(), place)
    except MergeryError as problem:
        return problem
    except Exception as problem:
        return WorkerError(
            f"a worker could not open the search: {type(problem).__name__}: {problem}",
            fix="define evaluators in a module that can be imported; if memory ran out, use fewer workers",
        )
