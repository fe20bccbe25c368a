"""Where trials run. See :mod:`mergery.evolve.launchers.api`."""

from __future__ import annotations

from mergery.engine.executors.processes import worker_devices
from mergery.engine.machine import available_threads
from mergery.errors import DeviceError
from mergery.evolve.examiner import Examiner
from mergery.evolve.launchers.api import Finished, Job, Launcher
from mergery.evolve.launchers.inline import InlineLauncher
from mergery.evolve.launchers.worker import OpenExaminer, Place
from mergery.evolve.search import SearchSettings

__all__ = ["Finished", "InlineLauncher", "Job", "Launcher", "check_launcher", "choose_launcher", "places"]


def check_launcher(settings: SearchSettings, device: str) -> None:
    """Make sure that what a search's settings ask for is there; begins nothing.

    Raises:
        DeviceError: if there is no such device.
        MissingExtraError: if it needs a package that is not installed.
    """
    if settings.launcher != "ray":
        places(device, settings.workers)
        return
    from mergery.engine.executors.ray import ray_package

    ray_package("search.launcher: ray")
    if ":" in device:
        raise DeviceError(f"device {device}: Ray chooses it", fix=f"use {device.partition(':')[0]}")


def choose_launcher(
    settings: SearchSettings, device: str, examiner: Examiner, open_examiner: OpenExaminer
) -> Launcher:
    """What a search's settings ask for: this process where one worker is enough, or workers.

    Args:
        settings: the search's.
        device: where to merge and score.
        examiner: of this process.
        open_examiner: opens another one in a worker.

    Raises:
        DeviceError: if there is no such device.
        WorkerError: if the search cannot be sent to workers.
    """
    if settings.launcher == "ray":
        from mergery.evolve.launchers.ray import RayLauncher

        return RayLauncher(examiner, open_examiner, device, settings.workers, settings.timeout)
    where = places(device, settings.workers)
    if len(where) == 1 and settings.timeout is None:
        return InlineLauncher(examiner)
    from mergery.evolve.launchers.processes import ProcessLauncher

    return ProcessLauncher(examiner, open_examiner, where, settings.timeout)


def places(device: str, workers: int) -> tuple[Place, ...]:
    """Where so many workers of this machine compute.

    Args:
        device: ``cpu``; a type of device, which means all that are there; or one device (``cuda:1``).
        workers: how many; 1 is one for each device. More than there are devices share them.

    Raises:
        DeviceError: if there is no such device.
    """
    devices = worker_devices(device, 1)
    count = workers if workers > 1 else len(devices)
    threads = max(1, available_threads() // count)
    return tuple(Place(devices[number % len(devices)], threads) for number in range(count))
