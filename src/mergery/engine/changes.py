"""Inner products of a gradient with what moved parameters change about a merge, tensor by tensor.

The gradient of a loss by a merge's parameters is ``sum_t <dL/dW_t, dW_t/dk>``. Where the result is a weighted
sum of the models, its changes are, too: one reading gives ``<dL/dW_t, tau_k>`` for every model, and with them
the inner products for all parameters. Elsewhere the neighbouring merge is computed.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mergery.engine.execute import described
from mergery.stack import Chunk, Combination, Merged
from mergery.stack.native import Workspace

if TYPE_CHECKING:
    from mergery.engine.inputs import Inputs, Opened
    from mergery.engine.plan import Job, Plan

__all__ = ["inner_changes"]


def inner_changes(
    plan: Plan,
    others: Sequence[Plan],
    inputs: Inputs,
    gradients: Mapping[str, Tensor],
    *,
    threads: int = 1,
) -> Iterator[tuple[str, list[float]]]:
    """``<gradient, other merge - merge>`` of every tensor that has a gradient, in float32.

    Args:
        plan: a merge.
        others: M merges of the same models, with other parameters.
        inputs: opens the tensors.
        gradients: by tensor, in its shape, on the device that computes.
        threads: tensors computed at a time.

    Yields:
        The tensor's name, and M inner products.

    Raises:
        MergeryError: if a tensor cannot be merged.
    """
    twins = [{job.name: job for job in other.jobs} for other in others]
    own = threading.local()

    def work(job: Job) -> list[float]:
        if not hasattr(own, "workspace"):
            own.workspace = Workspace()
        merge = _Tensor(plan, job, inputs, own.workspace, gradients[job.name].detach().flatten().float())
        pairs = zip(others, twins, strict=True)
        return [merge.change(other, by_name[job.name]) for other, by_name in pairs]

    jobs = [job for job in plan.jobs if job.output.is_float and job.name in gradients]
    with ThreadPoolExecutor(threads) as pool:
        for job, products in zip(jobs, pool.map(work, jobs), strict=True):
            yield job.name, products


@dataclass(frozen=True)
class _Tensor:
    """One tensor of a merge, and the gradient there, flat."""

    plan: Plan
    job: Job
    inputs: Inputs
    workspace: Workspace
    gradient: Tensor

    def change(self, plan: Plan, job: Job) -> float:
        """The gradient times what another job makes otherwise."""
        known = job.sources == self.job.sources
        if known and (job.method, job.values) == (self.job.method, self.job.values):
            return 0.0
        opened = self._opened if known else self.inputs.open(plan, job, self.workspace)
        merged = described(job, opened.stack)
        here, there = _coefficients(self._merged), _coefficients(merged)
        if known and here is not None and there is not None:
            return float((there - here) @ self._along_models)
        before, total = self._values, 0.0
        for start, piece in opened.compute.evaluate(merged, "F32"):
            place = slice(start, start + len(piece))
            difference = torch.from_numpy(piece - before[place]).to(self.gradient.device)
            total += float(difference @ self.gradient[place])
        return total

    @cached_property
    def _opened(self) -> Opened:
        return self.inputs.open(self.plan, self.job, self.workspace)

    @cached_property
    def _merged(self) -> Merged:
        return described(self.job, self._opened.stack)

    @cached_property
    def _along_models(self) -> NDArray[np.float64]:
        """``(K,)`` the gradient times each model."""

        def products(chunk: Chunk) -> Tensor:
            return chunk.values @ self.gradient[chunk.first : chunk.first + chunk.values.shape[1]]

        return self._opened.compute.total(products)

    @cached_property
    def _values(self) -> NDArray[np.float32]:
        """``(n,)`` the merge itself."""
        pieces = self._opened.compute.evaluate(self._merged, "F32")
        return np.concatenate([piece.copy() for _, piece in pieces])


def _coefficients(merged: Merged) -> NDArray[np.float64] | None:
    """``(K,)`` of a plain weighted sum of the models; ``None`` for what is none."""
    if not isinstance(merged, Combination) or merged.elect or not merged.sparsity.trivial:
        return None
    return np.array(merged.weight) * (merged.factor / merged.divisor)
