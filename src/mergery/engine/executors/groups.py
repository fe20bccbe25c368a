"""Jobs handed out in groups to other processes, which make their own plan and answer with evidence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

from mergery.checkpoint import Checkpoint, ModelRef
from mergery.engine.execute import execute
from mergery.engine.executors.api import Work
from mergery.engine.inputs import Inputs
from mergery.engine.job import Job
from mergery.engine.plan import make_plan
from mergery.engine.record import merge_key
from mergery.engine.shards import Evidence, PlacedSink, shard_layouts
from mergery.engine.source import DiskSource
from mergery.errors import CheckpointError
from mergery.recipe import Recipe

__all__ = ["Assignment", "Group", "Slot", "assignment", "hand_out", "merge_group"]

_GROUP_BYTES = 1 << 28
_GROUPS_PER_SLOT = 8

Group: TypeAlias = tuple[str, ...]
"""Names of tensors that are made together."""

Slot: TypeAlias = Callable[[Group], "Future[Mapping[str, Evidence]]"]
"""One worker: begins a group, behind those that it has."""


@dataclass(frozen=True)
class Assignment:
    """What a worker must know: plain data, which travels to another process or machine.

    Attributes:
        recipe: its YAML.
        models: the recipe's models, and the directories that they were found in.
        key: names the merge; a worker that sees other inputs refuses.
        shard_bytes: size of a file.
        workplace: the directory with the files that are laid out.
        device: where this worker computes.
        threads: tensors that it makes at a time.
    """

    recipe: str
    models: tuple[tuple[ModelRef, str], ...]
    key: str
    shard_bytes: int
    workplace: str
    device: str
    threads: int


def assignment(work: Work, *, device: str, threads: int) -> Assignment:
    """The assignment of one worker."""
    return Assignment(
        recipe=work.plan.recipe.to_yaml(),
        models=tuple((ref, str(model.directory)) for ref, model in work.plan.models.items()),
        key=work.key,
        shard_bytes=work.shard_bytes,
        workplace=str(work.sink.workplace),
        device=device,
        threads=threads,
    )


def hand_out(work: Work, slots: Sequence[Slot]) -> None:
    """Keep every slot busy until all is done, and have the sink record what comes back.

    Args:
        work: the merge.
        slots: the workers; each gets a group as soon as it is through with another.
    """
    groups = _groups(work.jobs, len(slots))
    sizes = {job.name: job.output.bytes for job in work.jobs}
    done = work.plan.bytes_written - sum(sizes.values())
    running: dict[Future[Mapping[str, Evidence]], Slot] = {}

    def begin(slot: Slot) -> None:
        names = next(groups, None)
        if names is not None:
            running[slot(names)] = slot

    for slot in [*slots, *slots]:  # one at work and one in waiting
        begin(slot)
    while running:
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            slot = running.pop(future)
            for name, evidence in future.result().items():
                work.sink.record(name, evidence)
                done += sizes[name]
            if work.progress:
                work.progress(done, work.plan.bytes_written)
            begin(slot)


def merge_group(assignment: Assignment, names: Group) -> Mapping[str, Evidence]:
    """Make tensors at their places in the files: what a worker does.

    Returns:
        What is known about each.
    """
    return _worker(assignment).run(names)


class _Worker:
    """A plan of its own, and what was found out about whole models, kept from group to group."""

    def __init__(self, assignment: Assignment) -> None:
        models = {ref: replace(Checkpoint.open(path), ref=ref) for ref, path in _directories(assignment)}
        self._plan = make_plan(Recipe.from_yaml(assignment.recipe), models)
        if merge_key(self._plan, assignment.shard_bytes, assignment.device) != assignment.key:
            raise CheckpointError(
                "a worker sees other models, or another release of Mergery, than the merge began with",
                fix="run the merge again when nothing writes to its inputs; on a cluster, install the same "
                "release everywhere and keep models where all machines see the same files",
            )
        self._jobs = {job.name: job for job in self._plan.jobs}
        self._layouts = shard_layouts([job.output for job in self._plan.jobs], assignment.shard_bytes)
        self._source = DiskSource()
        self._inputs = Inputs(self._source, device=assignment.device, threads=assignment.threads)
        self._assignment = assignment

    def run(self, names: Group) -> Mapping[str, Evidence]:
        jobs = [self._jobs[name] for name in names]
        with PlacedSink(Path(self._assignment.workplace), self._layouts) as sink, self._source:
            execute(self._plan, self._inputs, sink, jobs=jobs, threads=self._assignment.threads)
        return sink.evidence


@lru_cache(maxsize=1)
def _worker(assignment: Assignment) -> _Worker:
    return _Worker(assignment)


def _directories(assignment: Assignment) -> Iterator[tuple[ModelRef, ModelRef]]:
    for ref, path in assignment.models:
        yield ref, ModelRef(path)


def _groups(jobs: Sequence[Job], slots: int) -> Iterator[Group]:
    """Neighbours in checkpoint order, of about as many bytes each."""
    size = min(_GROUP_BYTES, sum(job.output.bytes for job in jobs) / (slots * _GROUPS_PER_SLOT))
    names: list[str] = []
    held = 0
    for job in jobs:
        names.append(job.name)
        held += job.output.bytes
        if held >= size:
            yield tuple(names)
            names, held = [], 0
    if names:
        yield tuple(names)
