"""What is handed to an executor, and what it promises."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from mergery.engine.job import Job
from mergery.engine.plan import Plan
from mergery.engine.sink import DirectorySink

__all__ = ["Executor", "Work"]


@dataclass(frozen=True)
class Work:
    """A merge whose files are laid out.

    Attributes:
        plan: all of it.
        jobs: the tensors that are left to be made.
        sink: the files.
        shard_bytes: size of a file.
        key: names the merge: its recipe, the state of its inputs, its type of device.
        device: where to compute.
        threads: tensors merged at a time, on a cluster by each task; ``None`` for as many as is sensible.
        progress: told the bytes written so far and in all.
    """

    plan: Plan
    jobs: Sequence[Job]
    sink: DirectorySink
    shard_bytes: int
    key: str
    device: str = "cpu"
    threads: int | None = None
    progress: Callable[[int, int], None] | None = None


class Executor(Protocol):
    """Runs the jobs of one merge. Which one does it cannot be seen in the result's bytes."""

    def __call__(self, work: Work) -> None:
        """Make every tensor of ``work.jobs`` and have ``work.sink`` record it.

        Raises:
            MergeryError: of the first job that fails; those that are not begun are dropped, and none is
                running any more.
        """
        ...
