"""Trials in processes of this machine: one for each GPU, or several on the processor."""

from __future__ import annotations

import os
import pickle
import signal
import threading
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait

from mergery.engine.executors.leash import put_on
from mergery.errors import MergeryError, WorkerError
from mergery.evolve.examiner import Examiner
from mergery.evolve.launchers.api import Finished
from mergery.evolve.launchers.crew import Crew, Gone
from mergery.evolve.launchers.worker import OpenExaminer, Place, Task, open_desk

__all__ = ["ProcessLauncher"]

_GRACE = 5.0
"""Seconds in which a process that has closed its pipe is sure to end, if it ends."""

_GONE = object()


class ProcessLauncher(Crew["_Process"]):
    """Runs each job in one of several processes, which end with this one, however it ends.

    Args:
        examiner: whose ledger says what need not be asked again, and keeps what is answered.
        open_examiner: opens the models in a worker.
        places: where workers compute, one entry each.
        timeout: seconds after which a candidate that hangs has failed; ``None`` waits for ever.

    Raises:
        WorkerError: if ``open_examiner`` cannot travel to another process.
    """

    advice = 'a script calls evolve below `if __name__ == "__main__":`; if memory ran out, use fewer workers'

    def __init__(
        self,
        examiner: Examiner,
        open_examiner: OpenExaminer,
        places: Sequence[Place],
        timeout: float | None = None,
    ) -> None:
        super().__init__(examiner, len(places), timeout)
        self._places = tuple(places)
        self._opening = packed(open_examiner)

    def _hire(self, number: int) -> _Process:
        return _Process(self._opening, self._places[number])

    def _wait(self, workers: Sequence[_Process], seconds: float | None) -> Sequence[_Process]:
        heard = wait([line for worker in workers for line in worker.lines], seconds)
        return [worker for worker in workers if any(line in heard for line in worker.lines)]


class _Process:
    """A worker: a pipe for its tasks and its answers, and another one that ends it when it is let go."""

    def __init__(self, opening: bytes, place: Place) -> None:
        context = get_context("spawn")
        self._pipe, there = context.Pipe()
        collar, self._leash = context.Pipe(duplex=False)
        self._process = context.Process(target=_serve, args=(there, collar, place))
        self._process.start()
        there.close()
        collar.close()
        # a pipe takes little before the other end reads, and the process takes seconds to begin
        self._courier = threading.Thread(target=_hand_over, args=(self._pipe, opening), daemon=True)
        self._courier.start()

    @property
    def lines(self) -> tuple[Connection, int]:
        """What to wait for: its answers, and its end."""
        return self._pipe, self._process.sentinel

    def begin(self, task: Task) -> None:
        try:
            self._pipe.send(task)
        except OSError as problem:
            raise Gone(self._epitaph()) from problem

    def answer(self) -> Finished | None:
        try:
            said = self._pipe.recv() if self._pipe.poll() else _GONE
        except (EOFError, OSError):
            said = _GONE
        if said is _GONE:
            raise Gone(self._epitaph())
        if isinstance(said, MergeryError):
            raise said
        assert said is None or isinstance(said, Finished)
        return said

    def end(self) -> None:
        assert self._process.pid
        with suppress(OSError):  # if it has only just begun, it has no group of its own yet
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        self._process.join()
        self._courier.join()
        self._process.close()
        self._leash.close()
        self._pipe.close()

    def _epitaph(self) -> str:
        """How it has ended."""
        self._process.join(_GRACE)
        code = self._process.exitcode
        if code is None:
            return "has closed its pipe"
        if code >= 0:
            return f"ended with exit code {code}"
        name = signal.Signals(-code).name
        hint = ": memory may have run out" if name == "SIGKILL" else ""
        return f"was killed by {name}{hint}"


def packed(open_examiner: OpenExaminer) -> bytes:
    """What a worker needs to open the models, as bytes.

    Raises:
        WorkerError: if a part of it cannot be put into bytes.
    """
    try:
        return pickle.dumps(open_examiner)
    except (pickle.PicklingError, AttributeError, TypeError) as problem:
        raise WorkerError(
            f"the search cannot be sent to other processes: {problem}",
            fix="define evaluators at the top of a module, or use one worker",
        ) from problem


def _hand_over(pipe: Connection, opening: bytes) -> None:
    with suppress(OSError):  # it has ended, which its sentinel says
        pipe.send_bytes(opening)


def _serve(pipe: Connection, collar: Connection, place: Place) -> None:
    """A worker's life."""
    put_on(collar)
    os.setpgid(0, 0)  # what evaluators begin ends with it
    desk = open_desk(lambda: pickle.loads(pipe.recv_bytes()), place)
    if isinstance(desk, MergeryError):
        pipe.send(desk)
        return
    pipe.send(None)
    with suppress(EOFError):
        while True:
            pipe.send(desk.work(pipe.recv()))
