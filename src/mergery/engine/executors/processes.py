"""Jobs run by processes of this machine: one for each GPU, or, to order, several on the processor."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from functools import partial
from multiprocessing import get_context

from mergery.engine.executors.api import Work
from mergery.engine.executors.groups import Assignment, Group, assignment, hand_out, merge_group
from mergery.engine.executors.leash import put_on
from mergery.engine.machine import available_threads
from mergery.engine.shards import Evidence
from mergery.engine.stock import usable_device
from mergery.errors import WorkerError

__all__ = ["run_in_processes", "worker_devices"]


def run_in_processes(work: Work) -> None:
    """See :class:`~mergery.engine.executors.api.Executor`."""
    threads = work.threads or available_threads()
    devices = worker_devices(work.device, threads)
    with ExitStack() as pools:
        slots = [
            partial(
                _submit,
                pools.enter_context(_Process()),
                assignment(work, device=device, threads=max(1, threads // len(devices))),
            )
            for device in devices
        ]
        try:
            hand_out(work, slots)
        except BrokenProcessPool as problem:
            raise WorkerError(
                "a worker process has ended before its work was done",
                fix="run the same command again: finished shards are kept; if memory ran out, with fewer "
                '--threads; a script calls merge below `if __name__ == "__main__":`',
            ) from problem


def worker_devices(device: str, threads: int) -> list[str]:
    """Where the workers compute, one entry each.

    Args:
        device: ``cpu``; a type of device, which means all that are there; or one device (``cuda:1``).
        threads: how many workers share the processor, if it is that.

    Raises:
        DeviceError: if there is no such device.
    """
    if device == "cpu":
        return ["cpu"] * threads
    usable_device(device)
    if ":" in device:
        return [device]
    import torch

    return [f"{device}:{index}" for index in range(torch.get_device_module(device).device_count())]


class _Process(ProcessPoolExecutor):
    """One process; it begins with its first group, and ends when its leash is let go."""

    def __init__(self) -> None:
        context = get_context("spawn")
        collar, self._leash = context.Pipe(duplex=False)
        super().__init__(1, mp_context=context, initializer=put_on, initargs=(collar,))

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self._leash.close()  # what it is doing will not be needed
        self.shutdown(cancel_futures=True)
        self._leash.close()


def _submit(process: _Process, assigned: Assignment, names: Group) -> Future[Mapping[str, Evidence]]:
    return process.submit(merge_group, assigned, names)
