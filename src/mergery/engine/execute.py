"""Jobs turned into tensors: the only place where tensors meet a method."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import torch

from mergery.checkpoint.safetensors import torch_dtype
from mergery.errors import CheckpointError, MergeryError, RecipeError
from mergery.threads import torch_threads

if TYPE_CHECKING:
    from torch import Tensor

    from mergery.engine.plan import Job, Plan
    from mergery.engine.sink import Sink
    from mergery.engine.source import Source

__all__ = ["execute"]


def execute(
    plan: Plan,
    source: Source,
    sink: Sink,
    *,
    threads: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Compute every job of the plan and hand it to the sink.

    Each tensor is computed by one thread, so the bytes do not depend on how many there are.

    Args:
        plan: what to compute.
        source: where the inputs come from.
        sink: where the results go.
        threads: tensors computed at a time.
        progress: told the bytes written so far and in all.

    Raises:
        MergeryError: of the first job that fails; jobs not yet begun are dropped.
    """

    def work(job: Job) -> int:
        sink.write(job.name, merge_job(plan, job, source))
        return job.output.bytes

    done = 0
    with torch_threads(1), ThreadPoolExecutor(threads) as pool:
        results = (work(job) for job in plan.jobs) if threads == 1 else pool.map(work, plan.jobs)
        try:
            for written in results:
                done += written
                if progress:
                    progress(done, plan.bytes_written)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def merge_job(plan: Plan, job: Job, source: Source) -> Tensor:
    """One tensor of the result, in its shape and type.

    float32 throughout; one cast at the end.
    """
    if not job.output.is_float:
        return _copied(job, source)
    try:
        merged = plan.method(source.stack(job, plan.recipe.seed), job.values)
    except MergeryError as problem:
        raise type(problem)(f"{job.name}: {problem.message}", fix=problem.fix) from problem
    if job.base is not None:
        merged = merged + source.base(job)
    result = merged.to(torch_dtype(job.output.dtype)).reshape(job.output.shape)
    if not bool(result.isfinite().all()):
        raise RecipeError(
            f"{job.name}: the merge has NaN or infinite values in {job.output.dtype}",
            fix="choose smaller weights, or out_dtype: float32",
        )
    return result


def _copied(job: Job, source: Source) -> Tensor:
    """A tensor of whole numbers or switches: the same in all models, or an error."""
    first, *others = (source.plain(info) for info in job.sources)
    for info, other in zip(job.sources[1:], others, strict=True):
        if not torch.equal(first, other):
            raise CheckpointError(
                f"{job.name}: it is not of floating point and differs between {job.sources[0].file} and "
                f"{info.file}",
                fix="merge models whose buffers agree",
            )
    return first
