"""Jobs turned into tensors: the only place where tensors meet a method."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from mergery.errors import CheckpointError, MergeryError, RecipeError
from mergery.stack import Place, RandomKey, Stack, TaskVectors, Weights
from mergery.stack.native import CHUNK, NativeCompute, Workspace, checked_finite
from mergery.stack.rows import Bits

if TYPE_CHECKING:
    from mergery.engine.plan import Job, Plan
    from mergery.engine.sink import Sink
    from mergery.engine.source import Source

__all__ = ["execute", "merged_chunks"]

_AHEAD = 2


def execute(
    plan: Plan,
    source: Source,
    sink: Sink,
    *,
    jobs: Sequence[Job] | None = None,
    threads: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Compute jobs of the plan, chunk by chunk, and hand the chunks to the sink.

    Each tensor is computed by one thread, so the bytes do not depend on how many there are.

    Args:
        plan: what to compute.
        source: where the inputs come from.
        sink: where the results go.
        jobs: those to compute; by default all.
        threads: tensors computed at a time.
        progress: told the bytes written so far and in all.

    Raises:
        MergeryError: of the first job that fails; jobs not yet begun are dropped.
    """
    jobs = plan.jobs if jobs is None else jobs
    own = threading.local()
    done = plan.bytes_written - sum(job.output.bytes for job in jobs)

    def work(index: int) -> int:
        job = jobs[index]
        if index + threads < len(jobs):
            for info in jobs[index + threads].sources:
                source.prefetch(info)
        if not hasattr(own, "workspace"):
            own.workspace = Workspace()
        with sink.tensor(job.output) as write:
            for start, piece in merged_chunks(plan, job, source, own.workspace):
                write(start, piece)
        return job.output.bytes

    with ThreadPoolExecutor(threads) as pool:
        try:
            for written in pool.map(work, range(len(jobs))):
                done += written
                if progress:
                    progress(done, plan.bytes_written)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def merged_chunks(plan: Plan, job: Job, source: Source, workspace: Workspace) -> Iterator[tuple[int, Bits]]:
    """First element and raw elements of each piece of one tensor of the result; overwritten by the next.

    float32 throughout; one cast at the end.
    """
    if not job.output.is_float:
        yield from _copied(job, source)
        return
    stack, compute = open_stack(plan, job, source, workspace)
    try:
        merged = plan.method(stack, job.values)
        for start, piece in compute.evaluate(merged, job.output.dtype):
            _check_result(piece, job)
            yield start, piece
    except MergeryError as problem:
        if isinstance(problem, RecipeError) and not problem.message.startswith(job.name):
            raise type(problem)(f"{job.name}: {problem.message}", fix=problem.fix) from problem
        raise


def open_stack(plan: Plan, job: Job, source: Source, workspace: Workspace) -> tuple[Stack, NativeCompute]:
    """One tensor's stack, as its method sees it."""
    compute = NativeCompute(
        [source.rows(info) for info in job.inputs],
        None if job.base is None else source.rows(job.base),
        job.output.shape,
        RandomKey(plan.recipe.seed, job.name),
        workspace,
    )
    kind = Weights if job.base is None else TaskVectors
    place = Place(job.name, job.output.layer, 0, job.output.role)
    return kind(compute, len(job.inputs), job.output.shape, place, None, job.base is not None), compute


def _check_result(piece: Bits, job: Job) -> None:
    try:
        if piece.dtype in (np.uint16, np.float32):
            checked_finite(piece, job.name)
        elif not np.isfinite(piece).all():
            raise CheckpointError(job.name, fix="")
    except CheckpointError as problem:
        raise RecipeError(
            f"{job.name}: the merge has NaN or infinite values in {job.output.dtype}",
            fix="choose smaller weights, or out_dtype: float32",
        ) from problem


def _copied(job: Job, source: Source) -> Iterable[tuple[int, Bits]]:
    """A tensor of whole numbers or switches: the same in all models, or an error."""
    first, *others = job.sources
    for start in range(0, first.bytes, CHUNK):
        held = np.empty(min(CHUNK, first.bytes - start), np.uint8)
        source.read_bytes(first, start, held.data)
        for info in others:
            other = np.empty_like(held)
            source.read_bytes(info, start, other.data)
            if not np.array_equal(held, other):
                raise CheckpointError(
                    f"{job.name}: it is not of floating point and differs between {first.file} and {info.file}",
                    fix="merge models whose buffers agree",
                )
        yield start, held
