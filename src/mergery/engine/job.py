"""One tensor of the result and all that it is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mergery.checkpoint import TensorInfo
from mergery.engine.operand import Operand
from mergery.methods import MergeMethod, Value
from mergery.stack.chunk import CHUNK
from mergery.stack.order import LOWER_BINS, UPPER_BINS

__all__ = ["Job"]

# Bytes of anonymous memory: for each element of a chunk, of each operand and beside them (buffers, and what
# a method that is not fused makes of them on the way), and for each model's histograms.
_PER_OPERAND = 24
_PER_ELEMENT = 32
_HISTOGRAMS = 8 * (UPPER_BINS + 2 * LOWER_BINS)


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

    @property
    def memory(self) -> int:
        """Bytes needed to compute it: a bound, whatever its method and however large the tensor."""
        row = self.output.shape[-1] if self.output.shape else 1
        chunk = min(self.output.elements, max(CHUNK, row))
        return chunk * (_PER_ELEMENT + _PER_OPERAND * len(self.sources)) + _HISTOGRAMS * len(self.inputs)
