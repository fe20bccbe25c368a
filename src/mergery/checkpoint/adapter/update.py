"""What an adapter does to one tensor: numbers in, numbers out, block of rows by block of rows.

A tensor is read as a matrix whose memory is the tensor's own: rows along the last axis, except that
the weights of a convolution have one row for each output channel and a vector has one for each element.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import FileIO
from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from mergery.checkpoint.safetensors import ITEM_BYTES, FileStamp, TensorInfo
from mergery.errors import CheckpointError

__all__ = ["Added", "LowRank", "Replaced", "ReplacedRows", "Step", "Update", "Updater", "read_float32"]

Matrix: TypeAlias = NDArray[np.float32]

_TILE_ROWS = 32
_TILE_WORK = 1 << 18
"""Rows and multiplications of one tile. BLAS rounds by the shape of what it multiplies, so tiles stand
at fixed places of the tensor, however a caller cuts it into blocks; and this small, they are not spread
over threads, whose number would show in the last bit."""

_NUMPY_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


class Updater(Protocol):
    """A step with its numbers in memory."""

    def apply(self, rows: Matrix, first_row: int) -> None:
        """Change a block of whole rows in place.

        Args:
            rows: ``(r, columns)`` float32, the tensor's rows from ``first_row`` on.
            first_row: where the block begins.
        """


class Step(Protocol):
    """One thing that an adapter does to a tensor."""

    @property
    def whole(self) -> bool:
        """Whether it must see all rows at once."""

    @property
    def sources(self) -> tuple[TensorInfo, ...]:
        """The adapter's tensors that it uses."""

    def load(self, shape: tuple[int, int]) -> Updater:
        """Read what it needs to change a matrix of this shape."""


@dataclass(frozen=True)
class LowRank:
    """W + scale · B A (arXiv:2106.09685, eq. 3), for one matrix or for a stack of experts.

    With a magnitude m it is DoRA: m · (W + scale · B A) / ‖W + scale · B A‖, the norm over the inputs of
    each output (arXiv:2402.09353, eq. 5). An output that is zero throughout has no direction and stays.

    Attributes:
        a: ``(experts · rank, in)``, or the ``(rank, in, …)`` weights of a convolution.
        b: ``(out, rank · experts)``, the experts side by side within each rank.
        scale: the factor of the product.
        transposed: whether the tensor stores (in, out), as Conv1D layers and embeddings do.
        magnitude: one number for each output.
        experts: number of matrices that the tensor holds.
    """

    a: TensorInfo
    b: TensorInfo
    scale: float
    transposed: bool
    magnitude: TensorInfo | None = None
    experts: int = 1

    @property
    def whole(self) -> bool:
        """A norm down the columns needs all rows."""
        return self.magnitude is not None and self.transposed

    @property
    def sources(self) -> tuple[TensorInfo, ...]:
        """The adapter's tensors that it uses."""
        return (self.a, self.b, self.magnitude) if self.magnitude else (self.a, self.b)

    def load(self, shape: tuple[int, int]) -> Updater:
        """Read A and B, lay them out as the tensor is stored, and scale the left one."""
        a = read_float32(self.a).reshape(self.experts, self.a.shape[0] // self.experts, -1)
        b = read_float32(self.b).reshape(self.b.shape[0], -1, self.experts).transpose(2, 0, 1)
        left, right = (a.transpose(0, 2, 1), b.transpose(0, 2, 1)) if self.transposed else (b, a)
        factor = np.float32(self.scale)
        product = _Product(np.ascontiguousarray(left) * factor, np.ascontiguousarray(right))
        assert (product.left.shape[0] * product.left.shape[1], product.right.shape[2]) == shape
        if self.magnitude is None:
            return product
        magnitude = read_float32(self.magnitude)
        return _ColumnNorms(product, magnitude) if self.transposed else _RowNorms(product, magnitude)


@dataclass(frozen=True)
class Replaced:
    """The adapter brings the tensor itself: a module trained in full, a saved bias, saved embeddings.

    Attributes:
        value: the tensor, of the same shape.
    """

    value: TensorInfo
    whole: bool = field(default=False, init=False)

    @property
    def sources(self) -> tuple[TensorInfo, ...]:
        """The adapter's tensors that it uses."""
        return (self.value,)

    def load(self, shape: tuple[int, int]) -> Updater:
        """Nothing is read yet: it may be as large as the tensor, and is read with each block."""
        return _FromFile(self.value, shape[1])


@dataclass(frozen=True)
class Added:
    """W + scale · value: the bias of B, where ``lora_bias`` gave it one.

    Attributes:
        value: a tensor of the same shape.
        scale: its factor.
    """

    value: TensorInfo
    scale: float
    whole: bool = field(default=False, init=False)

    @property
    def sources(self) -> tuple[TensorInfo, ...]:
        """The adapter's tensors that it uses."""
        return (self.value,)

    def load(self, shape: tuple[int, int]) -> Updater:
        """Read the value and scale it."""
        return _Sum(read_float32(self.value).reshape(shape) * np.float32(self.scale))


@dataclass(frozen=True)
class ReplacedRows:
    """Some rows of an embedding, trained in full (``trainable_token_indices``).

    Attributes:
        rows: which rows, in the order of the values.
        values: ``(len(rows), columns)``.
    """

    rows: tuple[int, ...]
    values: TensorInfo
    whole: bool = field(default=False, init=False)

    @property
    def sources(self) -> tuple[TensorInfo, ...]:
        """The adapter's tensors that it uses."""
        return (self.values,)

    def load(self, shape: tuple[int, int]) -> Updater:
        """Read the rows."""
        return _Rows(np.asarray(self.rows), read_float32(self.values).reshape(-1, shape[1]))


@dataclass(frozen=True)
class Update:
    """Everything that an adapter does to one tensor of the model.

    Attributes:
        tensor: the model's tensor.
        steps: what is done to it, in order.
    """

    tensor: TensorInfo
    steps: tuple[Step, ...]

    @property
    def columns(self) -> int:
        """Length of a row: blocks are made of whole ones."""
        shape = self.tensor.shape
        if len(shape) < 2:
            return 1
        convolution = any(isinstance(step, LowRank) and len(step.a.shape) > 2 for step in self.steps)
        return self.tensor.elements // shape[0] if convolution else shape[-1]

    @property
    def rows(self) -> int:
        """Number of rows."""
        return self.tensor.elements // self.columns

    @property
    def whole(self) -> bool:
        """Whether :meth:`Updater.apply` must get all rows at once: a norm runs down the columns."""
        return any(step.whole for step in self.steps)

    @property
    def bytes(self) -> int:
        """What it reads of the adapter."""
        return sum(source.bytes for step in self.steps for source in step.sources)

    def load(self) -> Updater:
        """Read the adapter's numbers, once for the tensor.

        Returns:
            what changes the tensor's rows in place; it may be used from several threads.

        Raises:
            CheckpointError: if the adapter's file has become shorter than its header said.
        """
        shape = self.rows, self.columns
        return _Steps(*shape, tuple(step.load(shape) for step in self.steps))


def read_float32(info: TensorInfo, first: int = 0, count: int | None = None) -> Matrix:
    """Read elements of a tensor as float32, without torch.

    Args:
        info: a tensor of floating-point numbers.
        first: the first element.
        count: how many; all that follow by default.

    Returns:
        A vector of its own.

    Raises:
        CheckpointError: if the file ends too early, or has changed since its header was read.
    """
    size = ITEM_BYTES[info.dtype]
    buffer = bytearray((info.elements - first if count is None else count) * size)
    with memoryview(buffer) as view, _opened(info.file) as stream:
        done = 0
        while done < len(buffer):
            read = os.preadv(stream.fileno(), [view[done:]], info.start + first * size + done)
            if not read:
                raise CheckpointError(
                    f"{info.file}: it ends inside {info.name}", fix="download or save the adapter again"
                )
            done += read
        if info.stamp not in (None, FileStamp.of(os.fstat(stream.fileno()))):
            raise CheckpointError(
                f"{info.file}: it has changed while it was being merged",
                fix="run the merge again when nothing writes to its inputs",
            )
    numbers = np.frombuffer(buffer, _NUMPY_TYPES[info.dtype])
    if info.dtype == "BF16":  # the upper half of a float32
        return (numbers.astype(np.uint32) << 16).view(np.float32)
    return numbers.astype(np.float32, copy=False)


def _opened(file: Path) -> FileIO:
    try:
        return file.open("rb", buffering=0)
    except OSError as problem:
        raise CheckpointError(
            f"{file}: cannot be read: {problem.strerror}", fix="check the path and its permissions"
        ) from problem


@dataclass(frozen=True)
class _Steps:
    rows: int
    columns: int
    steps: tuple[Updater, ...]

    def apply(self, rows: Matrix, first_row: int) -> None:
        if rows.dtype != np.float32 or rows.ndim != 2 or rows.shape[1] != self.columns:
            raise ValueError(f"expected float32 rows of {self.columns}, got {rows.dtype} {rows.shape}")
        if not 0 <= first_row <= first_row + len(rows) <= self.rows:
            raise ValueError(f"rows {first_row} to {first_row + len(rows)} of {self.rows}")
        for step in self.steps:
            step.apply(rows, first_row)


@dataclass(frozen=True)
class _Product:
    """``left`` is (experts, height, rank) and has the scale in it, ``right`` (experts, rank, columns)."""

    left: Matrix
    right: Matrix

    def apply(self, rows: Matrix, first_row: int) -> None:
        for block, start in self.tiles(rows, first_row):
            self.add(block, start)

    def tiles(self, rows: Matrix, first_row: int) -> Iterator[tuple[Matrix, int]]:
        """The part of the rows in each tile, with its first row."""
        height = self.left.shape[1]
        start, end = first_row, first_row + len(rows)
        while start < end:
            within = start % height
            tile_end = min(within - within % _TILE_ROWS + _TILE_ROWS, height)
            stop = min(end, start + tile_end - within)
            yield rows[start - first_row : stop - first_row], start
            start = stop

    def add(self, block: Matrix, start: int) -> None:
        """Add the product to rows that lie in one tile. The whole tile is computed, always."""
        expert, within = divmod(start, self.left.shape[1])
        top = within - within % _TILE_ROWS
        left, right = self.left[expert, top : top + _TILE_ROWS], self.right[expert]
        kept = slice(within - top, within - top + len(block))
        width = max(16, _TILE_WORK // (_TILE_ROWS * left.shape[1]) // 16 * 16)
        for column in range(0, right.shape[1], width):
            block[:, column : column + width] += (left @ right[:, column : column + width])[kept]


@dataclass(frozen=True)
class _RowNorms:
    product: _Product
    magnitude: Matrix

    def apply(self, rows: Matrix, first_row: int) -> None:
        for block, start in self.product.tiles(rows, first_row):
            self.product.add(block, start)
            squares = np.square(block, dtype=np.float64).sum(axis=1)
            block *= _factors(self.magnitude[start : start + len(block)], squares)[:, None]


@dataclass(frozen=True)
class _ColumnNorms:
    product: _Product
    magnitude: Matrix

    def apply(self, rows: Matrix, first_row: int) -> None:
        if len(rows) != self.product.left.shape[1]:
            raise ValueError(f"expected all {self.product.left.shape[1]} rows, got {len(rows)}")
        squares = np.zeros(rows.shape[1])
        for block, start in self.product.tiles(rows, first_row):
            self.product.add(block, start)
            squares += np.square(block, dtype=np.float64).sum(axis=0)
        rows *= _factors(self.magnitude, squares)


def _factors(magnitude: Matrix, squares: NDArray[np.float64]) -> Matrix:
    """Magnitude over norm; 1 where the norm is 0."""
    norms = np.sqrt(squares)
    factors = np.divide(magnitude, norms, out=np.ones_like(norms), where=norms > 0)
    return factors.astype(np.float32)


@dataclass(frozen=True)
class _FromFile:
    value: TensorInfo
    columns: int

    def apply(self, rows: Matrix, first_row: int) -> None:
        rows[:] = read_float32(self.value, first_row * self.columns, rows.size).reshape(rows.shape)


@dataclass(frozen=True)
class _Sum:
    value: Matrix

    def apply(self, rows: Matrix, first_row: int) -> None:
        rows += self.value[first_row : first_row + len(rows)]


@dataclass(frozen=True)
class _Rows:
    rows: NDArray[np.int64]
    values: Matrix

    def apply(self, rows: Matrix, first_row: int) -> None:
        here = (self.rows >= first_row) & (self.rows < first_row + len(rows))
        rows[self.rows[here] - first_row] = self.values[here]
