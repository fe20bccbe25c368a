"""Jobs run by processes of this machine: one for each GPU, or, to order, several on the processor."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from functools import partial
from multiprocessing import connection, get_context, parent_process

from mergery.engine.executors.api import Work
from mergery.engine.executors.groups import Assignment, Group, assignment, hand_out, merge_group
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
                "--threads",
            ) from problem


def worker_devices(device: str, threads: int) -> list[str]:
    """Where the workers compute, one entry each.

    Args:
        device: ``cpu``; a type of device, which means all that are there; or one device (``cuda:1``).
        threads: how many workers share the processor, if it is that.
    """
    if device == "cpu":
        return ["cpu"] * threads
    if ":" in device:
        return [device]
    import torch

    usable_device(device)
    return [f"{device}:{index}" for index in range(torch.get_device_module(device).device_count())]


class _Process(ProcessPoolExecutor):
    """One process; it begins with its first group."""

    def __init__(self) -> None:
        super().__init__(1, mp_context=get_context("spawn"), initializer=_prepare)

    def __exit__(self, *_: object) -> None:
        self.shutdown(cancel_futures=True)


def _submit(process: _Process, assigned: Assignment, names: Group) -> Future[Mapping[str, Evidence]]:
    return process.submit(merge_group, assigned, names)


def _prepare() -> None:
    """A worker leaves Ctrl-C to its parent, and does not outlive it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
