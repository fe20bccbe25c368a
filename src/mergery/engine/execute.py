"""Jobs turned into tensors: the place where tensors meet a method."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

from mergery.engine.operand import stored_tensors
from mergery.errors import CheckpointError, RecipeError
from mergery.stack.chunk import CHUNK
from mergery.stack.native import Workspace, checked_finite
from mergery.stack.rows import Bits

if TYPE_CHECKING:
    from mergery.engine.inputs import Inputs
    from mergery.engine.plan import Job, Plan
    from mergery.engine.sink import Sink, Writer
    from mergery.stack import Merged, Stack

__all__ = ["described", "execute"]


def execute(
    plan: Plan,
    inputs: Inputs,
    sink: Sink,
    *,
    jobs: Sequence[Job] | None = None,
    threads: int = 1,
    progress: Callable[[int, int], None] | None = None,
    survival: bool = True,
) -> None:
    """Compute jobs of the plan, chunk by chunk, and hand the chunks to the sink.

    Each tensor is computed by one thread, so the bytes do not depend on how many there are.

    Args:
        plan: what to compute.
        inputs: opens its tensors.
        sink: where the results go.
        jobs: those to compute; by default all.
        threads: tensors computed at a time.
        progress: told the bytes written so far and in all.
        survival: whether to count what the cast leaves of the models' changes.

    Raises:
        MergeryError: of the first job that fails; jobs not yet begun are dropped.
    """
    jobs = plan.jobs if jobs is None else jobs
    own = threading.local()
    done = plan.bytes_written - sum(job.output.bytes for job in jobs)

    def work(index: int) -> int:
        job = jobs[index]
        if index + threads < len(jobs):
            inputs.prefetch(jobs[index + threads])
        if not hasattr(own, "workspace"):
            own.workspace = Workspace()
        _compute(plan, job, inputs, own.workspace, sink.open(job.output), survival=survival)
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


def _compute(
    plan: Plan, job: Job, inputs: Inputs, workspace: Workspace, writer: Writer, *, survival: bool
) -> None:
    """Compute one tensor: float32 throughout, one cast at the end."""
    if not job.output.is_float:
        for start, piece in _copied(job, inputs):
            writer.write(start, piece)
        writer.close({})
        return
    opened = inputs.open(plan, job, workspace)
    merged = described(job, opened.stack)
    for start, piece in opened.compute.evaluate(merged, job.output.dtype, survival=survival):
        _check_result(piece, job)
        writer.write(start, piece)
    evidence: dict[str, object] = {"inputs": [getattr(rows, "digest", None) for rows in opened.rows]}
    if survival and job.base is not None:
        evidence["survival"] = opened.compute.survival.tolist()
    writer.close(evidence)


def described(job: Job, stack: Stack) -> Merged:
    """What a job's method answers for its stack.

    Raises:
        RecipeError: naming the tensor, if the method refuses it.
    """
    try:
        return job.method(stack, job.values)
    except RecipeError as problem:
        raise RecipeError(f"{job.name}: {problem.message}", fix=problem.fix) from problem


def _check_result(piece: Bits, job: Job) -> None:
    try:
        checked_finite(
            piece if piece.dtype in (np.uint16, np.float32) else piece.astype(np.float32), job.name
        )
    except CheckpointError as problem:
        raise RecipeError(
            f"{job.name}: the merge has NaN or infinite values in {job.output.dtype}",
            fix="choose smaller weights, or out_dtype: float32",
        ) from problem


def _copied(job: Job, inputs: Inputs) -> Iterator[tuple[int, Bits]]:
    """A tensor of whole numbers or switches: the same in all models, or an error."""
    first, *others = (info for operand in job.sources for info in stored_tensors(operand))
    for start in range(0, first.bytes, CHUNK):
        held = np.empty(min(CHUNK, first.bytes - start), np.uint8)
        inputs.source.read_bytes(first, start, held.data)
        for info in others:
            other = np.empty_like(held)
            inputs.source.read_bytes(info, start, other.data)
            if not np.array_equal(held, other):
                raise CheckpointError(
                    f"{job.name}: it is not of floating point and differs between {first.file} and "
                    f"{info.file}",
                    fix="merge models whose buffers agree",
                )
        yield start, held
