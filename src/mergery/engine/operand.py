"""What a job reads: a tensor as it is stored, one made of several that are, or the result of another job."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

from mergery.checkpoint import TensorInfo
from mergery.checkpoint.safetensors import ITEM_BYTES

if TYPE_CHECKING:
    from mergery.engine.job import Job
    from mergery.engine.plan import Plan

__all__ = ["Computed", "Concatenated", "Operand", "stored_tensors", "window"]


@dataclass(frozen=True)
class Concatenated:
    """A tensor whose elements, in order, are those of others, one after the other.

    So they are joined along the first axis, or (one matrix for each expert) along the first two.

    Attributes:
        name: what the tensor would be called.
        shape: what its shape would be; as many elements as the parts have together.
        parts: stored tensors of one type, in order.
    """

    name: str
    shape: tuple[int, ...]
    parts: tuple[TensorInfo, ...]

    @property
    def dtype(self) -> str:
        """The format's name of its type (``BF16``)."""
        return self.parts[0].dtype

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Size of the parts in their files."""
        return sum(part.bytes for part in self.parts)

    @property
    def is_float(self) -> bool:
        """Whether it can be merged."""
        return self.parts[0].is_float


@dataclass(frozen=True)
class Computed:
    """A tensor of a nested recipe's result, which is never written.

    Attributes:
        recipe: the nested recipe's digest; with the job's name it says which tensor it is.
        name: the tensor's name there.
        plan: the nested recipe's plan.
        job: the plan's job that makes it.
    """

    recipe: str
    name: str
    plan: Plan = field(compare=False, repr=False)
    job: Job = field(compare=False, repr=False)

    @property
    def dtype(self) -> str:
        """The type that the nested result would be written in."""
        return self.job.output.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape."""
        return self.job.output.shape

    @property
    def elements(self) -> int:
        """Number of elements."""
        return self.job.output.elements

    @property
    def bytes(self) -> int:
        """Size that it would have in a file."""
        return self.job.output.bytes

    @property
    def is_float(self) -> bool:
        """Whether it can be merged."""
        return self.job.output.is_float


Operand: TypeAlias = TensorInfo | Concatenated | Computed
"""Has ``name``, ``dtype``, ``shape``, ``elements``, ``bytes`` and ``is_float``, whatever it is."""


def stored_tensors(operand: Operand) -> Iterator[TensorInfo]:
    """The stored tensors that are read for it, in order."""
    match operand:
        case Concatenated():
            yield from operand.parts
        case Computed():
            for source in operand.job.sources:
                yield from stored_tensors(source)
        case _:
            yield operand


def window(whole: TensorInfo, name: str, first: int, shape: tuple[int, ...]) -> TensorInfo:
    """Neighbouring elements of a stored tensor as a tensor of their own.

    Args:
        whole: the tensor.
        name: what to call the part.
        first: its first element, counted over the whole tensor.
        shape: its shape.
    """
    return replace(whole, name=name, shape=shape, start=whole.start + first * ITEM_BYTES[whole.dtype])
