"""Whether one expert's changes are so large that they drown the others': a sample of the weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mergery.checkpoint import ModelRef
from mergery.engine.inputs import Inputs
from mergery.engine.operand import Adapted, Computed, Gathered, Operand, stored_tensors
from mergery.engine.plan import Job, Plan
from mergery.engine.source import DiskSource
from mergery.stack.chunk import CHUNK
from mergery.stack.native import Workspace

__all__ = ["balance_risks", "sampled_norms"]

_TENSORS = 16
_MUCH = 3.0  # the sum of two unrelated changes whose norms differ by this is within 18 degrees of the larger


def balance_risks(plan: Plan) -> Iterator[str]:
    """What there is to say about the sizes of the experts' changes.

    Args:
        plan: the merge; of its weights, up to 16 stretches of a chunk are read.
    """
    norms = sampled_norms(plan)
    if not norms:
        return
    loud, most = max(norms, key=lambda expert: expert[1])
    quiet, least = min(norms, key=lambda expert: expert[1])
    if least > 0 and most > _MUCH * least:
        yield (
            f"the changes of {loud} from the base are {most / least:.1f} times as large as those of {quiet} "
            "(in a sample): with equal weights, it dominates the merge"
        )


def sampled_norms(plan: Plan) -> list[tuple[str, float]]:
    """The Euclidean norm of each expert's change from the base, over a sample of the weights.

    Args:
        plan: the merge.

    Returns:
        Each expert's label and norm, in their order; empty where there is no base, or one expert only.
    """
    jobs = [job for job in plan.jobs if job.base is not None and job.method is plan.method]
    jobs = [job for job in jobs if len(job.inputs) == len(jobs[0].inputs) > 1 and len(job.output.shape) > 1]
    if not jobs:
        return []
    chosen = [jobs[index] for index in np.linspace(0, len(jobs) - 1, min(_TENSORS, len(jobs))).astype(int)]
    with DiskSource() as source:
        inputs = Inputs(source)
        squares = sum(_squares(plan, job, inputs) for job in chosen)
    owners = {info.file: ref for ref, model in plan.models.items() for info in model.tensors.values()}
    labels = [_label(operand, owners) for operand in chosen[0].inputs]
    return list(zip(labels, np.sqrt(squares).tolist(), strict=True))


def _squares(plan: Plan, job: Job, inputs: Inputs) -> NDArray[np.float64]:
    """``(K,)``: sums of squares of the experts' changes in the first chunk of a tensor."""
    rows = inputs.open(plan, job, Workspace()).rows
    held = np.empty((len(rows), min(job.output.elements, CHUNK)), np.float32)
    for row, operand in zip(held, rows, strict=True):
        operand.read(0, row)
    changes = (held[1:] - held[0]).astype(np.float64)
    return np.asarray((changes**2).sum(axis=1))


def _label(operand: Operand, owners: Mapping[Path, ModelRef]) -> str:
    """What to call an expert: its adapter, or the model that its tensor is stored in."""
    match operand:
        case Adapted():
            return str(operand.adapter)
        case Computed():
            return f"the nested {operand.plan.method.name}"
        case Gathered():
            return _label(operand.own, owners)
        case _:
            file = next(stored_tensors(operand)).file
            return str(owners.get(file, file))
