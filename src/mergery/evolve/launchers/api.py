"""Where trials run: in this process, one to each device or core, on a cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from mergery.evolve.candidate import Candidate
from mergery.evolve.examiner import Examined, Slope
from mergery.evolve.race import Race
from mergery.evolve.space import Genome

__all__ = ["Finished", "Job", "Launcher"]


@dataclass(frozen=True, eq=False)
class Job:
    """One candidate to examine.

    Attributes:
        number: of its trial.
        candidate: what to ask.
        race: against whom; it is asked all items if ``None``.
        genome: where in the space it is; ``None`` for a recipe from outside it.
        batch: number of the batch of items on which the gradient of the smooth loss is wanted, if it is.
    """

    number: int
    candidate: Candidate
    race: Race | None = None
    genome: Genome | None = None
    batch: int | None = None


@dataclass(frozen=True, eq=False)
class Finished:
    """A job's end.

    Attributes:
        number: of its trial.
        examined: its answers; ``None`` if it failed, or was asked for a gradient.
        slope: the gradient, where that was asked for.
        failure: why it failed, or ``None``.
    """

    number: int
    examined: Examined | None = None
    slope: Slope | None = None
    failure: str | None = None


class Launcher(Protocol):
    """Runs jobs, some at a time."""

    @property
    def slots(self) -> int:
        """How many run at the same time."""
        ...

    def submit(self, job: Job) -> None:
        """Take a job; no more than ``slots`` are out at a time."""
        ...

    def next(self) -> Finished:
        """Wait until a job ends, and say how.

        A candidate that fails, hangs or kills its process is a job that ended in failure. What would end
        every other candidate, too (a model that cannot be read), is raised.
        """
        ...

    def close(self) -> None:
        """End what is running, and let go of what it used."""
        ...
