"""The operands of a merge opened for reading, and its tensors' stacks made of them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from mergery.checkpoint import TensorInfo, layer_name
from mergery.engine.operand import Computed, Concatenated, Operand, stored_tensors
from mergery.engine.source import Source, to_float32
from mergery.engine.stock import usable_device
from mergery.stack import Place, RandomKey, Stack, TaskVectors, Weights
from mergery.stack.native import NativeCompute, Workspace
from mergery.stack.rows import Bits, Rows
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
        stack = kind(compute, len(job.inputs), job.output.shape, _place(plan, job), whole, based)
        return Opened(stack, compute, rows)

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
        match operand:
            case TensorInfo():
                return self.source.rows(operand)
            case Concatenated():
                return _ConcatenatedRows(operand, [self.source.rows(part) for part in operand.parts])
            case Computed():
                return _ComputedRows(self, operand, workspace.nested(index))

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


def _place(plan: Plan, job: Job) -> Place:
    """Where a tensor stands in the result."""
    parsed = layer_name(job.name)
    depth = plan.depths[parsed.stack] if parsed else 0
    return Place(job.name, parsed.index if parsed else None, depth, job.output.role)


class _ConcatenatedRows:
    """Tensors one after the other."""

    def __init__(self, operand: Concatenated, parts: list[Rows]) -> None:
        self._operand, self._parts = operand, parts
        self._ends = np.cumsum([0, *(part.elements for part in operand.parts)]).tolist()

    @property
    def dtype(self) -> str:
        return self._operand.dtype

    @property
    def origin(self) -> str:
        return f"{self._operand.parts[0].file}: {self._operand.name}"

    def read(self, start: int, out: Bits) -> None:
        end = start + out.size
        for part, (low, high) in zip(self._parts, pairwise(self._ends), strict=True):
            first, last = max(start, low), min(end, high)
            if first < last:
                part.read(first - low, out[first - start : last - start])


class _ComputedRows:
    """A nested recipe's result, computed as it is read."""

    def __init__(self, inputs: Inputs, operand: Computed, workspace: Workspace) -> None:
        self._operand = operand
        self._opened = inputs.open(operand.plan, operand.job, workspace)
        self._merged = operand.job.method(self._opened.stack, operand.job.values)

    @property
    def dtype(self) -> str:
        return self._operand.dtype

    @property
    def origin(self) -> str:
        return f"{self._operand.name} of a nested recipe"

    def read(self, start: int, out: Bits) -> None:
        piece = self._opened.compute.piece(self._merged, self.dtype, start, out.size)
        if piece.dtype == out.dtype:
            out[:] = piece
        else:
            to_float32(piece, out)
