"""A stack computed by torch on a device: the same answers as :mod:`.native`, in larger chunks.

Every sum is made in float64 and every element in the same order of operations as on the processor, but a
device may round some of them otherwise: equal bytes are promised for the same kind of device.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mergery.stack.chunk import Chunk
from mergery.stack.native import Workspace, checked_finite
from mergery.stack.order import LOWER_BINS, UPPER_BINS, select
from mergery.stack.random import RandomKey, uniform
from mergery.stack.result import Combination, Merged, Sparsity
from mergery.stack.rows import Bits, Rows, raw_type

__all__ = ["DEVICE_CHUNK", "DeviceCompute", "DeviceRows"]

DEVICE_CHUNK = 1 << 23
"""Elements of a chunk: large enough to keep a device busy. Sums depend on it: not a setting."""

_TORCH = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float64}

ChunkFunction = Callable[[Chunk], Tensor]


class DeviceRows:
    """A tensor kept on a device.

    Args:
        values: ``(n,)``, float32 or the bits of bfloat16.
        origin: what to call it.
        device: where to keep it.
    """

    def __init__(self, values: Bits, origin: str, device: str) -> None:
        self.origin = origin
        checked_finite(values, origin)
        self.values = _on_device(values, torch.device(device))

    @property
    def dtype(self) -> str:
        """See :class:`~mergery.stack.rows.Rows`."""
        return "BF16" if self.values.dtype == torch.bfloat16 else "F32"

    def read(self, start: int, out: Bits) -> None:
        """See :class:`~mergery.stack.rows.Rows`."""
        part = self.values[start : start + out.size].cpu()
        out[:] = (
            part.view(torch.int16).numpy().view(np.uint16) if out.dtype == np.uint16 else part.float().numpy()
        )


class DeviceCompute:
    """Reads and reduces one tensor's stack on a device; see :class:`~mergery.stack.stack.Compute`.

    Args:
        models: the tensor in each of K models.
        base: in the base, for differences from it.
        shape: its shape.
        key: names it for random numbers.
        workspace: the thread's buffers, on the processor's side.
        device: where to compute.
        chunk: elements of a chunk.
    """

    def __init__(
        self,
        models: Sequence[Rows],
        base: Rows | None,
        shape: tuple[int, ...],
        key: RandomKey,
        workspace: Workspace,
        device: torch.device,
        chunk: int = DEVICE_CHUNK,
    ) -> None:
        self._operands = [*([base] if base else []), *models]
        self._based = base is not None
        self._count = len(models)
        self._row = shape[-1] if shape else 1
        self._key, self._workspace, self._device, self._size = key, workspace, device, chunk
        self._raw = raw_type([operand.dtype for operand in self._operands])
        self._checked = False
        self.elements = math.prod(shape)
        self.survival = np.zeros(4)

    def chunks(self, rows: bool = False) -> Iterator[Chunk]:
        """The stack, chunk by chunk, as float32 on the device.

        Raises:
            CheckpointError: where an operand cannot be read, or is not finite.
        """
        step = max(1, self._size // self._row) * self._row if rows else self._size
        for first in range(0, self.elements, step):
            yield self._chunk(first, min(step, self.elements - first))
        self._checked = True

    def _chunk(self, first: int, size: int) -> Chunk:
        wide = self._held(first, size)
        base = wide[0] if self._based else None
        values = wide[1:] - base if base is not None else wide
        return Chunk(values, base, first, self._row, partial(self._uniform, first, values))

    def gram(self, rows: bool) -> NDArray[np.float64]:
        """Inner products, ``(1 or n / row, K, K)``."""
        parts: list[Tensor] = []
        for chunk in self.chunks(rows):
            wide = (chunk.rows.transpose(0, 1) if rows else chunk.values[None]).double()
            parts.append(wide @ wide.transpose(1, 2))
        if not parts:
            return np.zeros((0 if rows else 1, self._count, self._count))
        joined = torch.cat(parts) if rows else torch.stack(parts).sum(0)
        return np.asarray(joined.cpu().numpy())

    def magnitudes(self, sparsity: Sparsity) -> NDArray[np.float64]:
        """Sums of magnitudes before and after sparsifying, ``(K, 2)``."""
        sums = torch.zeros(self._count, 2, dtype=torch.float64, device=self._device)
        for chunk in self.chunks(sparsity.ranked):
            sums[:, 0] += chunk.values.abs().double().sum(1)
            sums[:, 1] += _sparsified(chunk, sparsity).abs().double().sum(1)
        return np.asarray(sums.cpu().numpy())

    def kth_magnitude(self, ranks: Sequence[Sequence[int]]) -> NDArray[np.float64]:
        """Magnitudes by rank (0 the smallest): ``(K, T)`` ranks, ``(K, T)`` values."""
        return self._select(np.array(ranks, np.int64))

    def kth_values(
        self, function: ChunkFunction, ranks: Sequence[Sequence[int]], rows: bool = False
    ) -> NDArray[np.float64]:
        """Values of R expressions by rank: ``(R, T)`` ranks, ``(R, T)`` values."""
        return self._select(np.array(ranks, np.int64), function, rows)

    def count_upper(
        self, counts: NDArray[np.int64], function: ChunkFunction | None = None, rows: bool = False
    ) -> None:
        """Count magnitudes by their upper bits; see :mod:`.order`."""
        total = torch.zeros(counts.shape, dtype=torch.int64, device=self._device)
        for bits in self._magnitude_bits(function, rows):
            for model, row in enumerate(bits >> 16):
                total[model] += torch.bincount(row, minlength=UPPER_BINS)
        counts += total.cpu().numpy()

    def count_lower(
        self,
        wanted: NDArray[np.uint32],
        counts: NDArray[np.int64],
        function: ChunkFunction | None = None,
        rows: bool = False,
    ) -> None:
        """Count the lower bits of magnitudes whose upper bits are wanted, ``(K, T)``."""
        total = torch.zeros(counts.shape, dtype=torch.int64, device=self._device)
        for bits in self._magnitude_bits(function, rows):
            for model, row in enumerate(bits):
                for target, upper in enumerate(wanted[model].tolist()):
                    inside = row[(row >> 16) == upper] & (LOWER_BINS - 1)
                    total[model, target] += torch.bincount(inside, minlength=LOWER_BINS)
        counts += total.cpu().numpy()

    def total(self, function: ChunkFunction, rows: bool = False) -> NDArray[np.float64]:
        """The sum over all chunks of what ``function`` gives for each."""
        total: Any = 0.0
        for chunk in self.chunks(rows):
            total = total + function(chunk).double().cpu().numpy()
        return np.asarray(total, np.float64)

    def evaluate(self, merged: Merged, dtype: str, *, survival: bool = False) -> Iterator[tuple[int, Bits]]:
        """Compute the result; see :meth:`NativeCompute.evaluate`."""
        for chunk in self.chunks(_needs_rows(merged)):
            exact = _exact(chunk, merged)
            written = exact.to(_TORCH[dtype])
            if survival and chunk.base is not None:
                self._survive(chunk.base, exact, written.float())
            yield chunk.first, _raw(written)

    def piece(self, merged: Merged, dtype: str, first: int, size: int) -> Bits:
        """Any elements of the result; see :meth:`NativeCompute.piece`."""
        rows = _needs_rows(merged)
        begin = first // self._row * self._row if rows else first
        end = -(-(first + size) // self._row) * self._row if rows else first + size
        exact = _exact(self._chunk(begin, end - begin), merged)
        return _raw(exact.to(_TORCH[dtype]))[first - begin : first - begin + size]

    def _held(self, first: int, size: int) -> Tensor:
        """All operands' elements on the device, ``(R, size)`` float32."""
        if all(isinstance(operand, DeviceRows) for operand in self._operands):
            kept = [operand.values for operand in self._operands if isinstance(operand, DeviceRows)]
            return torch.stack([values[first : first + size].float() for values in kept])
        held = self._workspace.array("rows", (len(self._operands), size), self._raw)
        for row, operand in zip(held, self._operands, strict=True):
            operand.read(first, row)
            if not self._checked:
                checked_finite(row, operand.origin)
        return _on_device(held, self._device).float()

    def _uniform(self, first: int, values: Tensor) -> Tensor:
        return uniform(self._key, self._count, first, values.shape[1], values)

    def _magnitude_bits(self, function: ChunkFunction | None, rows: bool) -> Iterator[Tensor]:
        for chunk in self.chunks(rows):
            values = chunk.values if function is None else function(chunk).reshape(-1, chunk.values.shape[1])
            yield values.contiguous().view(torch.int32) & 0x7FFFFFFF

    def _select(
        self, ranks: NDArray[np.int64], function: ChunkFunction | None = None, rows: bool = False
    ) -> NDArray[np.float64]:
        def histogram() -> NDArray[np.int64]:
            counts = np.zeros((len(ranks), UPPER_BINS), np.int64)
            self.count_upper(counts, function, rows)
            return counts

        def refine(wanted: NDArray[np.uint32]) -> NDArray[np.int64]:
            counts = np.zeros((*wanted.shape, LOWER_BINS), np.int64)
            self.count_lower(wanted, counts, function, rows)
            return counts

        return select(histogram, refine, ranks)

    def _survive(self, base: Tensor, exact: Tensor, written: Tensor) -> None:
        moves = exact != base
        change, error = (exact - base).double(), (written - exact).double()
        sums = (moves.sum(), (moves & (written == base)).sum(), change.square().sum(), error.square().sum())
        self.survival += np.array([float(part) for part in sums])


def _needs_rows(merged: Merged) -> bool:
    return merged.sparsity.ranked if isinstance(merged, Combination) else merged.rows


def _exact(chunk: Chunk, merged: Merged) -> Tensor:
    """The result of a chunk in float32, ``(m,)``."""
    result = _combined(chunk, merged) if isinstance(merged, Combination) else merged.function(chunk)
    if merged.factor != 1.0:
        result = result * merged.factor
    return result if chunk.base is None else chunk.base + result


def _raw(written: Tensor) -> Bits:
    """Elements as numpy holds them, on the processor's side."""
    flat = written.cpu().contiguous()
    return flat.view(torch.int16).numpy().view(np.uint16) if flat.dtype == torch.bfloat16 else flat.numpy()


def _on_device(values: Bits, device: torch.device) -> Tensor:
    """Raw elements on a device, as bfloat16 or float32; never the array's own memory."""
    if values.dtype == np.uint16:
        return torch.from_numpy(values.view(np.int16)).view(torch.bfloat16).to(device, copy=True)
    return torch.from_numpy(values).to(device, copy=True)


def _combined(chunk: Chunk, merged: Combination) -> Tensor:
    """A combination's element-wise steps, without its factor, ``(m,)``; as in :mod:`.kernels.combine`."""
    rows = _sparsified(chunk, merged.sparsity)
    total = rows[0] * merged.weight[0]
    for row, weight in zip(rows[1:], merged.weight[1:], strict=True):
        total = total + row * weight
    if not merged.elect:
        return total / merged.divisor if merged.divisor != 1.0 else total
    majority = total >= 0
    total, shares = torch.zeros_like(total), torch.zeros_like(total)
    for index, (row, weight) in enumerate(zip(rows, merged.weight, strict=True)):
        change = row * weight
        agrees = torch.where(majority, change > 0, change < 0)
        total += change * agrees
        if merged.shares is not None:
            shares += agrees * merged.shares[index]
    if merged.shares is not None:
        total = torch.where(shares != 0, total / shares, total)
    return total / merged.divisor if merged.divisor != 1.0 else total


def _sparsified(chunk: Chunk, sparsity: Sparsity) -> Tensor:
    """The models with entries dropped, ``(K, m)``."""
    if sparsity.trivial:
        return chunk.values
    size = chunk.values.abs()
    kept = (size >= chunk.column(sparsity.floor)) & (size < chunk.column(sparsity.ceiling))
    values = chunk.values * kept
    keep = torch.tensor(sparsity.keep, dtype=torch.float64, device=values.device)[:, None]
    if sparsity.random:
        if sparsity.ranked:
            keep = _by_rank(values, keep, sparsity, chunk.row)
        values = values * (chunk.uniform().double() < keep)
    scale = chunk.column(sparsity.scale)
    if sparsity.inverse:
        spread = torch.tensor(sparsity.spread, device=values.device)[:, None]
        scale = torch.where(spread > 0, scale / keep.float(), scale)
    return values * scale


def _by_rank(values: Tensor, keep: Tensor, sparsity: Sparsity, row: int) -> Tensor:
    """Each entry's probability, by its rank within its row, ``(K, m)`` float64."""
    spread = torch.tensor(sparsity.spread, dtype=torch.float64, device=values.device)[:, None]
    sizes = values.abs().view(len(values), -1, row)
    ranks = sizes.argsort(dim=2, stable=True).argsort(dim=2).view_as(values)
    return keep - spread + 2.0 * spread / (row - 1) * ranks if row > 1 else keep.expand(values.shape)
