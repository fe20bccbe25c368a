"""Whether one expert's changes are so large that they drown the others': a sample of the weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from mergery.engine.inputs import Inputs
from mergery.engine.operand import stored_tensors
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
    largest, smallest = max(norms, key=norms.__getitem__), min(norms, key=norms.__getitem__)
    if norms[largest] > _MUCH * norms[smallest]:
        times = f"{norms[largest] / norms[smallest]:.1f} times" if norms[smallest] else "beyond measure"
        yield (
            f"the changes of {largest} from the base are {times} as large as those of {smallest} (in a "
            "sample): with equal weights, it dominates the merge"
        )


def sampled_norms(plan: Plan) -> dict[str, float]:
    """The Euclidean norm of each expert's change from the base, over a sample of the weights.

    Args:
        plan: the merge.

    Returns:
        By the experts' labels, in their order; empty where there is no base, or one expert only.
    """
    jobs = [job for job in plan.jobs if job.base is not None and job.method is plan.method]
    jobs = [job for job in jobs if len(job.inputs) == len(jobs[0].inputs) > 1 and len(job.output.shape) > 1]
    if not jobs:
        return {}
    chosen = [jobs[index] for index in np.linspace(0, len(jobs) - 1, min(_TENSORS, len(jobs))).astype(int)]
    with DiskSource() as source:
        inputs = Inputs(source)
        squares = sum(_squares(plan, job, inputs) for job in chosen)
    return dict(zip(_labels(plan, chosen[0]), np.sqrt(squares).tolist(), strict=True))


def _squares(plan: Plan, job: Job, inputs: Inputs) -> NDArray[np.float64]:
    """``(K,)``: sums of squares of the experts' changes in the first chunk of a tensor."""
    rows = inputs.open(plan, job, Workspace()).rows
    held = np.empty((len(rows), min(job.output.elements, CHUNK)), np.float32)
    for row, operand in zip(held, rows, strict=True):
        operand.read(0, row)
    changes = (held[1:] - held[0]).astype(np.float64)
    return np.asarray((changes**2).sum(axis=1))


def _labels(plan: Plan, job: Job) -> Sequence[str]:
    """What to call the experts: the models that their tensors are stored in."""
    owners = {info.file: str(ref) for ref, model in plan.models.items() for info in model.tensors.values()}
    files = (next(stored_tensors(operand)).file for operand in job.inputs)
    return [owners.get(file, str(file)) for file in files]
