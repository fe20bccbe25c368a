"""Trials in the actors of a Ray cluster. All machines must see the same models under the same paths.

The search's record and its ledger are written by the process that searches alone.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from mergery.engine.executors.ray import cluster, ray_package, room
from mergery.errors import MergeryError, WorkerError
from mergery.evolve.examiner import Examiner
from mergery.evolve.launchers.api import Finished
from mergery.evolve.launchers.crew import Crew, Gone
from mergery.evolve.launchers.worker import Desk, OpenExaminer, Place, Task, open_desk

__all__ = ["RayLauncher"]


class RayLauncher(Crew["_Actor"]):
    """Runs each job in one of several actors; an actor has one processor, and a GPU if that is asked for.

    It joins the cluster that is there, or starts one on this machine until it is closed.

    Args:
        examiner: whose ledger says what need not be asked again, and keeps what is answered.
        open_examiner: opens the models in a worker.
        device: ``cpu``, or a type of device; Ray chooses which.
        workers: how many actors at most; 1 is as many as the cluster has room for.
        timeout: seconds after which a candidate that hangs has failed; ``None`` waits for ever.

    Raises:
        MissingExtraError: if Ray is not installed.
        DeviceError: if no machine of the cluster has such a device.
        WorkerError: if the cluster cannot be joined, or the search cannot be sent to it.
    """

    advice = "look at Ray's log; if memory ran out, use fewer workers"

    def __init__(
        self,
        examiner: Examiner,
        open_examiner: OpenExaminer,
        device: str,
        workers: int,
        timeout: float | None = None,
    ) -> None:
        self._ray = ray_package("search.launcher: ray")
        self._place = Place(device)
        self._needs = {"CPU": 1} if device == "cpu" else {"CPU": 1, "GPU": 1}
        with ExitStack() as joined:
            joined.enter_context(cluster(self._ray))
            slots = room(self._ray, self._needs)
            try:
                self._opening = self._ray.put(open_examiner)
            except TypeError as problem:
                raise WorkerError(
                    f"the search cannot be sent to the cluster: {problem}",
                    fix="define evaluators at the top of a module",
                ) from problem
            self._joined = joined.pop_all()
        super().__init__(examiner, min(slots, workers) if workers > 1 else slots, timeout)

    def close(self) -> None:
        """End all actors, and a cluster that was started for them."""
        super().close()
        self._joined.close()

    def _hire(self, number: int) -> _Actor:  # noqa: ARG002
        needs = {f"num_{kind.lower()}s": count for kind, count in self._needs.items()}
        actor = self._ray.remote(max_restarts=0, max_task_retries=0, **needs)(_Service).remote()
        return _Actor(self._ray, actor, actor.open.remote(self._opening, str(Path.cwd()), self._place))

    def _wait(self, workers: Sequence[_Actor], seconds: float | None) -> Sequence[_Actor]:
        busy = [worker for worker in workers if worker.answering is not None]
        answers = [worker.answering for worker in busy]
        self._ray.wait(answers, num_returns=1, timeout=seconds)
        heard, _ = self._ray.wait(answers, num_returns=len(answers), timeout=0)
        return [worker for worker in busy if worker.answering in heard]


class _Actor:
    """A worker: an actor, and the answer that it owes.

    Attributes:
        answering: the reference of its next answer; ``None`` when it has nothing to do.
    """

    def __init__(self, ray: Any, actor: Any, opening: Any) -> None:
        self._ray, self._actor = ray, actor
        self.answering: Any = opening

    def begin(self, task: Task) -> None:
        self.answering = self._actor.work.remote(task)

    def answer(self) -> Finished | None:
        answering, self.answering = self.answering, None
        try:
            said = self._ray.get(answering)
        except self._ray.exceptions.RayError as problem:
            first = str(problem).strip().partition("\n")[0]
            raise Gone(f"has failed: {type(problem).__name__}: {first}") from problem
        if isinstance(said, MergeryError):
            raise said
        assert said is None or isinstance(said, Finished)
        return said

    def end(self) -> None:
        self._ray.kill(self._actor)


class _Service:
    """What an actor is."""

    def __init__(self) -> None:
        self._desk: Desk | None = None

    def open(self, opening: OpenExaminer, directory: str, place: Place) -> MergeryError | None:
        """Open the models; relative paths are relative to the directory of the one who searches."""
        with suppress(OSError):  # absolute paths may do without it
            os.chdir(directory)
        desk = open_desk(lambda: opening, place)
        if isinstance(desk, MergeryError):
            return desk
        self._desk = desk
        return None

    def work(self, task: Task) -> Finished | MergeryError:
        """Examine one candidate."""
        assert self._desk is not None
        return self._desk.work(task)
