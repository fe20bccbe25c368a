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

__all__ = ["cluster", "ray_package", "room", "run_on_ray"]


def run_on_ray(work: Work) -> None:
    """See :class:`~mergery.engine.executors.api.Executor`.

    A task has ``work.threads`` processors (1 by default), and a GPU if that is where it computes.
    """
    ray = ray_package("--executor ray")
    threads = work.threads or 1
    needs = {"CPU": threads} if work.device == "cpu" else {"CPU": threads, "GPU": 1}
    with cluster(ray):
        slots = room(ray, needs)
        task = ray.remote(max_retries=0, **{f"num_{kind.lower()}s": needs[kind] for kind in needs})
        tasks = _Tasks(ray, task(_merge_there), assignment(work, device=work.device, threads=threads))
        try:
            hand_out(work, [tasks.begin] * slots)
        except ray.exceptions.RayTaskError as problem:
            raise (problem.cause if isinstance(problem.cause, MergeryError) else problem) from None
        except ray.exceptions.RayError as problem:
            raise WorkerError(
                f"a worker of the Ray cluster has failed: {type(problem).__name__}: {problem}",
                fix="look at Ray's log, and run the same command again: finished shards are kept",
            ) from problem
        finally:
            tasks.cancel()


def ray_package(where: str) -> Any:
    """Import ray, which is done nowhere else.

    Args:
        where: who asks for it, for the error text.

    Raises:
        MissingExtraError: if it is not installed.
    """
    try:
        import ray
    except ImportError as problem:
        raise MissingExtraError(
            f"{where}: the package ray is not installed", fix="pip install 'mergery[ray]'"
        ) from problem
    return ray


@contextmanager
def cluster(ray: Any) -> Iterator[None]:
    """Join the cluster that is there, or start one on this machine for the while."""
    if ray.is_initialized():
        yield
        return
    try:
        ray.init(include_dashboard=False, logging_level="warning")
    except (ConnectionError, RuntimeError, ValueError) as problem:
        raise WorkerError(
            f"the Ray cluster cannot be joined: {problem}",
            fix="start it (ray start), or unset RAY_ADDRESS to use this machine alone",
        ) from problem
    try:
        yield
    finally:
        ray.shutdown()


def room(ray: Any, needs: Mapping[str, int]) -> int:
    """How many tasks or actors the cluster's machines have room for at a time.

    Args:
        ray: the package, with the cluster joined.
        needs: what one of them takes: numbers of ``CPU`` and ``GPU``.

    Raises:
        DeviceError: if there is no room for one.
    """
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    slots = sum(min(int(has.get(kind, 0) // needs[kind]) for kind in needs) for has in machines)
    if not slots:  # a task would wait for ever
        wanted = " and ".join(f"{count} {kind}" for kind, count in needs.items())
        raise DeviceError(
            f"the Ray cluster has no machine with {wanted}",
            fix="add one, or use fewer --threads or another --device",
        )
    return slots


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
    with suppress(OSError):  # absolute paths may do without it
        os.chdir(directory)
    return merge_group(assigned, names)
