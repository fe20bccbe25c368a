"""What a job reads: a tensor as it is stored, one made of several that are, or the result of another job."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeAlias

from mergery.checkpoint import TensorInfo
from mergery.checkpoint.safetensors import ITEM_BYTES

if TYPE_CHECKING:
    from mergery.checkpoint import ModelRef
    from mergery.checkpoint.adapter import Update
    from mergery.engine.job import Job
    from mergery.engine.plan import Plan
    from mergery.tokenizer import RowMap

__all__ = ["Adapted", "Computed", "Concatenated", "Gathered", "Operand", "stored_tensors", "window"]


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


@dataclass(frozen=True)
class Adapted:
    """A stored tensor with an adapter on it.

    Attributes:
        stored: the tensor.
        adapter: the adapter's reference; with the tensor it says which result it is.
        update: what the adapter does to it.
    """

    stored: TensorInfo
    adapter: ModelRef
    update: Update = field(compare=False, repr=False)

    @property
    def name(self) -> str:
        """The tensor's name."""
        return self.stored.name

    @property
    def dtype(self) -> str:
        """The stored tensor's type."""
        return self.stored.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """The tensor's shape; adapters keep it."""
        return self.stored.shape

    @property
    def elements(self) -> int:
        """Number of elements."""
        return self.stored.elements

    @property
    def bytes(self) -> int:
        """What is read of both."""
        return self.stored.bytes + self.update.bytes

    @property
    def is_float(self) -> bool:
        """Whether it can be merged."""
        return self.stored.is_float


@dataclass(frozen=True, eq=False)
class Gathered:
    """Embeddings (or an output head) in the rows of another vocabulary.

    Attributes:
        name: the tensor's name.
        own: the model's tensor.
        parts: every model's tensor, in the order that the map's numbers refer to.
        rows: which row stands where.
    """

    name: str
    own: Operand
    parts: tuple[Operand, ...]
    rows: RowMap

    @property
    def dtype(self) -> str:
        """The type of the model's own rows."""
        return self.own.dtype

    @property
    def shape(self) -> tuple[int, ...]:
        """As many rows as the vocabulary has."""
        return len(self.rows.donor), *self.own.shape[1:]

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Size that it would have in a file."""
        return self.elements * ITEM_BYTES[self.dtype]

    @property
    def is_float(self) -> bool:
        """Whether it can be merged."""
        return self.own.is_float


Operand: TypeAlias = "TensorInfo | Concatenated | Computed | Adapted | Gathered"
"""Has ``name``, ``dtype``, ``shape``, ``elements``, ``bytes`` and ``is_float``, whatever it is."""


def stored_tensors(operand: Operand) -> Iterator[TensorInfo]:
    """The stored tensors that are read for it, in order."""
    match operand:
        case Concatenated():
            yield from operand.parts
        case Computed():
            for source in operand.job.sources:
                yield from stored_tensors(source)
        case Adapted():
            yield operand.stored
        case Gathered():
            for part in operand.parts:
                yield from stored_tensors(part)
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
