"""One tensor of the result and all that it is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mergery.checkpoint import TensorInfo
from mergery.engine.operand import Operand
from mergery.methods import MergeMethod, Value

__all__ = ["Job"]

# Bytes of anonymous memory for each element: of each model, and beside the models. Measured on the methods
# there are, with what the allocator keeps of freed memory; random masks are drawn in 64-bit integers.
_SCRATCH_PER_MODEL = {False: 16, True: 40}
_SCRATCH = 24


@dataclass(frozen=True)
class Job:
    """One tensor of the result.

    Attributes:
        output: its name, type and shape; it lies in no file yet, so ``file`` and ``start`` say nothing.
        inputs: the tensors that are merged, in the stack's order.
        base: the tensor that task vectors start from.
        values: the method's parameters for this tensor, by recipe name.
        method: what computes it: the recipe's method, or ``passthrough`` for a tensor that is copied.
    """

    output: TensorInfo
    inputs: tuple[Operand, ...]
    base: Operand | None
    values: Mapping[str, Value]
    method: MergeMethod

    @property
    def name(self) -> str:
        """The result's name for it."""
        return self.output.name

    @property
    def sources(self) -> tuple[Operand, ...]:
        """Everything that is read for it."""
        return self.inputs if self.base is None else (self.base, *self.inputs)

    def memory(self, method: MergeMethod) -> int:
        """Bytes needed to compute it: a bound, by the method's kind."""
        per_element = _SCRATCH + _SCRATCH_PER_MODEL[method.random] * len(self.inputs)
        return per_element * self.output.elements
