"""Operands that are not stored as they are read: joined, computed, adapted or with rows from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from mergery.checkpoint.adapter import Update
from mergery.engine.source import to_float32
from mergery.stack import Merged
from mergery.stack.chunk import CHUNK
from mergery.stack.rows import Bits, Rows
from mergery.tokenizer.rows import AVERAGE, MIXED, ZERO, RowMap

__all__ = ["AdaptedRows", "ComputedRows", "ConcatenatedRows", "Evaluable", "GatheredRows"]


@dataclass(frozen=True)
class ConcatenatedRows:
    """Tensors one after the other.

    Attributes:
        parts: the tensors.
        sizes: their numbers of elements.
    """

    parts: Sequence[Rows]
    sizes: Sequence[int]
    dtype: str
    origin: str

    def read(self, start: int, out: Bits) -> None:
        """See :class:`~mergery.stack.rows.Rows`."""
        end = start + out.size
        places = pairwise(np.cumsum([0, *self.sizes]).tolist())
        for part, (low, high) in zip(self.parts, places, strict=True):
            first, last = max(start, low), min(end, high)
            if first < last:
                part.read(first - low, out[first - start : last - start])


class Evaluable(Protocol):
    """What :class:`ComputedRows` needs of a stack."""

    def piece(self, merged: Merged, dtype: str, first: int, size: int) -> Bits:
        """Any elements of the result."""
        ...


@dataclass(frozen=True)
class ComputedRows:
    """A nested recipe's result, computed as it is read, in the type that it would be written in."""

    compute: Evaluable
    merged: Merged
    dtype: str
    origin: str

    def read(self, start: int, out: Bits) -> None:
        """See :class:`~mergery.stack.rows.Rows`."""
        piece = self.compute.piece(self.merged, self.dtype, start, out.size)
        if piece.dtype == out.dtype:
            out[:] = piece
        else:
            to_float32(piece, out)


class AdaptedRows:
    """A tensor with an adapter on it, in float32.

    Args:
        stored: the tensor.
        update: what the adapter does to it.
        elements: the tensor's number of elements.
    """

    dtype = "F32"

    def __init__(self, stored: Rows, update: Update, elements: int) -> None:
        self._stored, self._columns, self._elements = stored, update.columns, elements
        self._whole = update.whole
        self._updater = update.load()
        self.origin = stored.origin

    @cached_property
    def _all(self) -> NDArray[np.float32]:
        """The whole tensor, for updates that cannot be made row by row."""
        return self._block(0, self._elements)

    def read(self, start: int, out: Bits) -> None:
        """See :class:`~mergery.stack.rows.Rows`."""
        if self._whole:
            out[:] = self._all[start : start + out.size]
            return
        begin = start // self._columns * self._columns
        end = min(-(-(start + out.size) // self._columns) * self._columns, self._elements)
        out[:] = self._block(begin, end)[start - begin : start - begin + out.size]

    def _block(self, begin: int, end: int) -> NDArray[np.float32]:
        """Whole rows, adapted."""
        block = np.empty(end - begin, np.float32)
        self._stored.read(begin, block)
        self._updater.apply(block.reshape(-1, self._columns), begin // self._columns)
        return block


class GatheredRows:
    """Embeddings whose rows come from several models.

    Args:
        parts: every model's embeddings, in the order that the map's numbers refer to.
        rows: which row stands where.
        columns: length of a row.
        origin: what to call it.
    """

    def __init__(self, parts: Sequence[Rows], rows: RowMap, columns: int, origin: str) -> None:
        self._parts, self._map, self._columns, self.origin = parts, rows, columns, origin
        exact = not (rows.mixed or bool((rows.donor == AVERAGE).any()))
        self.dtype = "BF16" if exact and all(part.dtype == "BF16" for part in parts) else "F32"
        breaks = (np.diff(rows.donor) != 0) | (np.diff(rows.row) != 1) | (rows.donor[1:] < 0)
        self._starts = np.concatenate([[0], np.flatnonzero(breaks) + 1, [len(rows.donor)]])

    def read(self, start: int, out: Bits) -> None:
        """See :class:`~mergery.stack.rows.Rows`."""
        first, last = start // self._columns, -(-(start + out.size) // self._columns)
        whole = out if (last - first) * self._columns == out.size else self._empty(last - first, out.dtype)
        self._read_rows(first, whole)
        if whole is not out:
            skipped = start - first * self._columns
            out[:] = whole[skipped : skipped + out.size]

    def _read_rows(self, first: int, out: Bits) -> None:
        for low, high in self._runs(first, first + out.size // self._columns):
            target = out[(low - first) * self._columns : (high - first) * self._columns]
            donor, row = int(self._map.donor[low]), int(self._map.row[low])
            if donor >= 0:
                self._parts[donor].read(row * self._columns, target)
            elif donor == ZERO:
                target[:] = 0
            elif donor == MIXED:
                target[:] = self._mean(self._map.mixed[low])
            else:
                target[:] = self._average

    def _runs(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """Stretches of rows that lie together in one model."""
        index = int(np.searchsorted(self._starts, first, side="right")) - 1
        while self._starts[index] < last:
            yield max(first, int(self._starts[index])), min(last, int(self._starts[index + 1]))
            index += 1

    def _mean(self, places: Sequence[tuple[int, int]]) -> NDArray[np.float32]:
        total = np.zeros(self._columns)
        row = np.empty(self._columns, np.float32)
        for model, index in places:
            self._parts[model].read(index * self._columns, row)
            total += row
        return (total / len(places)).astype(np.float32)

    @cached_property
    def _average(self) -> NDArray[np.float32]:
        """The mean of all rows that are not this average themselves."""
        counted = np.flatnonzero(self._map.donor != AVERAGE)
        total = np.zeros(self._columns)
        step = max(1, CHUNK // self._columns)
        for index in np.split(counted, np.flatnonzero(np.diff(counted) != 1) + 1):
            for low in range(0, len(index), step):
                rows = np.empty(len(index[low : low + step]) * self._columns, np.float32)
                self._read_rows(int(index[low]), rows)
                total += rows.reshape(-1, self._columns).sum(axis=0, dtype=np.float64)
        return (total / max(1, len(counted))).astype(np.float32)

    def _empty(self, rows: int, dtype: np.dtype[np.generic]) -> Bits:
        return np.empty(rows * self._columns, dtype)
