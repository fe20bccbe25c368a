"""Where the jobs of a merge run: in threads, in processes, on a Ray cluster. The bytes are the same."""

from __future__ import annotations

from mergery.engine.executors.api import Executor, Work
from mergery.engine.executors.processes import run_in_processes, worker_devices
from mergery.engine.executors.threads import run_in_threads
from mergery.errors import DeviceError, near_miss

__all__ = ["EXECUTORS", "Executor", "Work", "choose_executor"]

EXECUTORS = ("auto", "threads", "processes", "ray")
"""``auto`` is a process for each device where there are several, and threads otherwise."""


def choose_executor(name: str, device: str) -> Executor:
    """The executor of that name.

    Args:
        name: one of :data:`EXECUTORS`.
        device: where it will compute.

    Raises:
        DeviceError: if there is none of that name, or no such device.
        MissingExtraError: if it needs a package that is not installed.
    """
    if name not in EXECUTORS:
        raise DeviceError(f"executor {name}: there is none", fix=near_miss(name, EXECUTORS))
    if name == "ray":
        from mergery.engine.executors.ray import ray_package, run_on_ray

        ray_package("--executor ray")
        if ":" in device:
            raise DeviceError(f"device {device}: Ray chooses it", fix=f"use {device.partition(':')[0]}")
        return run_on_ray
    several = len(worker_devices(device, 1)) > 1
    return run_in_processes if name == "processes" or (name == "auto" and several) else run_in_threads
