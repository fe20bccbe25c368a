"""The operands of a merge opened for reading, and its tensors' stacks made of them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from mergery.checkpoint import TensorInfo
from mergery.engine.operand import Adapted, Computed, Concatenated, Gathered, Operand, stored_tensors
from mergery.engine.rows import AdaptedRows, ComputedRows, ConcatenatedRows, GatheredRows
from mergery.engine.source import Source
from mergery.engine.stock import usable_device
from mergery.stack import RandomKey, Stack, TaskVectors, Weights
from mergery.stack.native import NativeCompute, Workspace
from mergery.stack.rows import Rows
from mergery.stack.whole import ModelReductions

if TYPE_CHECKING:
    from mergery.engine.plan import Job, Plan
    from mergery.stack.device import DeviceCompute

__all__ = ["Inputs", "Opened"]


@dataclass(frozen=True)
class Opened:
    """One tensor of the result, ready to be computed.

    Attributes:
        stack: what its method sees.
        compute: reads, reduces and evaluates it.
        rows: its operands, the base first if there is one.
    """

    stack: Stack
    compute: NativeCompute | DeviceCompute
    rows: Sequence[Rows]


class Inputs:
    """Opens stacks, wherever their tensors come from and wherever they are computed.

    Args:
        source: where stored tensors come from.
        device: where to compute.
        threads: tensors read at a time for reductions over whole models.
    """

    def __init__(self, source: Source, *, device: str = "cpu", threads: int = 1) -> None:
        self.source = source
        self._device = device
        self._threads = threads
        self._whole: dict[int, ModelReductions] = {}
        self._lock = threading.Lock()
        if device != "cpu":
            usable_device(device)

    def open(self, plan: Plan, job: Job, workspace: Workspace) -> Opened:
        """One tensor's stack.

        Args:
            plan: the merge.
            job: the tensor; of floating point.
            workspace: buffers of the thread that will compute it.
        """
        rows = [self._rows(operand, workspace, index) for index, operand in enumerate(job.sources)]
        compute = self._compute(plan, job, rows, workspace)
        kind = Weights if job.base is None else TaskVectors
        whole, based = self._reductions(plan), job.base is not None
        stack = kind(compute, len(job.inputs), job.output.shape, plan.place(job), whole, based)
        return Opened(stack, compute, rows)

    def forget(self) -> None:
        """Drop the reductions over whole models, and with them the plans that they belong to."""
        with self._lock:
            self._whole.clear()

    def prefetch(self, job: Job) -> None:
        """Say that a job will be computed soon."""
        for operand in job.sources:
            for info in stored_tensors(operand):
                self.source.prefetch(info)

    def _compute(
        self, plan: Plan, job: Job, rows: Sequence[Rows], workspace: Workspace
    ) -> NativeCompute | DeviceCompute:
        base, models = (None, rows) if job.base is None else (rows[0], rows[1:])
        key = RandomKey(plan.recipe.seed, job.name)
        if self._device == "cpu":
            return NativeCompute(models, base, job.output.shape, key, workspace)
        from mergery.stack.device import DeviceCompute

        return DeviceCompute(models, base, job.output.shape, key, workspace, usable_device(self._device))

    def _rows(self, operand: Operand, workspace: Workspace, index: int) -> Rows:
        """Open one operand; what it is computed in lies beside the stack's own buffers."""
        match operand:
            case TensorInfo():
                return self.source.rows(operand)
            case Concatenated():
                parts = [self.source.rows(part) for part in operand.parts]
                sizes = [part.elements for part in operand.parts]
                return ConcatenatedRows(
                    parts, sizes, operand.dtype, f"{operand.parts[0].file}: {operand.name}"
                )
            case Computed():
                opened = self.open(operand.plan, operand.job, workspace.nested(index))
                merged = operand.job.method(opened.stack, operand.job.values)
                return ComputedRows(opened.compute, merged, operand.dtype, f"a nested recipe: {operand.name}")
            case Adapted():
                return AdaptedRows(self.source.rows(operand.stored), operand.update, operand.elements)
            case Gathered():
                parts = [self._rows(part, workspace, index) for part in operand.parts]
                return GatheredRows(parts, operand.rows, operand.shape[-1], operand.name)

    def _opened(self, plan: Plan, job: Job, workspace: Workspace) -> NativeCompute | DeviceCompute:
        return self.open(plan, job, workspace).compute

    def _reductions(self, plan: Plan) -> ModelReductions:
        """Reductions over all tensors of a plan that its method merges, one object for each plan."""
        with self._lock:
            if id(plan) not in self._whole:
                merged = [job for job in plan.jobs if job.output.is_float and job.method is plan.method]
                self._whole[id(plan)] = ModelReductions(
                    [partial(self._opened, plan, job) for job in merged],
                    sum(job.output.elements for job in merged),
                    len(merged[0].inputs) if merged else 0,
                    self._threads,
                )
            return self._whole[id(plan)]
