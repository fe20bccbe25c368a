"""Jobs run by the workers of a Ray cluster. All machines must see the same files under the same paths."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mergery.engine.executors.api import Work
from mergery.engine.executors.groups import Assignment, Group, assignment, hand_out, merge_group
from mergery.engine.shards import Evidence
from mergery.errors import DeviceError, MergeryError, MissingExtraError, WorkerError

__all__ = ["ray_package", "run_on_ray"]


def run_on_ray(work: Work) -> None:
    """See :class:`~mergery.engine.executors.api.Executor`.

    One task at a time has ``work.threads`` processors (1 by default), or one GPU.
    """
    ray = ray_package()
    device, threads = work.device.partition(":")[0], work.threads or 1
    needs = {"num_cpus": threads} if device == "cpu" else {"num_cpus": threads, "num_gpus": 1}
    with _cluster(ray):
        task = ray.remote(max_retries=0, **needs)(_merge_there)
        tasks = _Tasks(ray, task, assignment(work, device=device, threads=threads))
        try:
            hand_out(work, [tasks.begin] * _slots(ray, device, threads))
        except ray.exceptions.RayTaskError as problem:
            raise (problem.cause if isinstance(problem.cause, MergeryError) else problem) from None
        except ray.exceptions.RayError as problem:
            raise WorkerError(
                f"a worker of the Ray cluster has failed: {type(problem).__name__}: {problem}",
                fix="look at Ray's log, and run the same command again: finished shards are kept",
            ) from problem
        finally:
            tasks.cancel()


def ray_package() -> Any:
    """Import ray.

    Raises:
        MissingExtraError: if it is not installed.
    """
    try:
        import ray
    except ImportError as problem:
        raise MissingExtraError(
            "--executor ray: the package ray is not installed", fix="pip install 'mergery[ray]'"
        ) from problem
    return ray


@contextmanager
def _cluster(ray: Any) -> Iterator[None]:
    """Join the cluster that is there, or start one on this machine for the while."""
    if ray.is_initialized():
        yield
        return
    ray.init(include_dashboard=False, logging_level="warning")
    try:
        yield
    finally:
        ray.shutdown()


def _slots(ray: Any, device: str, threads: int) -> int:
    """How many tasks the cluster has room for at a time."""
    resources: Mapping[str, float] = ray.cluster_resources()
    if device == "cpu":
        return max(1, int(resources.get("CPU", 1) // threads))
    count = int(resources.get("GPU", 0))
    if not count:
        raise DeviceError(f"device {device}: the Ray cluster has none", fix="use --device cpu")
    return count


class _Tasks:
    """The groups that the cluster was asked for."""

    def __init__(self, ray: Any, task: Any, assigned: Assignment) -> None:
        self._ray, self._task = ray, task
        self._assigned = ray.put(assigned)
        self._begun: list[Any] = []

    def begin(self, names: Group) -> Future[Mapping[str, Evidence]]:
        reference = self._task.remote(self._assigned, str(Path.cwd()), names)
        self._begun.append(reference)
        future: Future[Mapping[str, Evidence]] = reference.future()
        return future

    def cancel(self) -> None:
        """End those that are still running."""
        for reference in self._begun:
            self._ray.cancel(reference, force=True)


def _merge_there(assigned: Assignment, directory: str, names: Group) -> Mapping[str, Evidence]:
    """What a task does; paths of the recipe are relative to the directory of the one who asks."""
    with suppress(FileNotFoundError):
        os.chdir(directory)
    return merge_group(assigned, names)
