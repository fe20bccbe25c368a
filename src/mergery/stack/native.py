"""A stack computed on the processor, chunk by chunk, in buffers that are used again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mergery.errors import CheckpointError
from mergery.stack import kernels
from mergery.stack.chunk import CHUNK, FUNCTION_CHUNK
from mergery.stack.kernels.compiled import BLOCK
from mergery.stack.order import LARGE, LOWER_BINS, UPPER_BINS, Sifted, select, select_near
from mergery.stack.random import RandomKey
from mergery.stack.result import Combination, Merged, Sparsity
from mergery.stack.rows import Bits, Rows, raw_type

if TYPE_CHECKING:
    from torch import Tensor

    from mergery.stack.chunk import Chunk

__all__ = ["NativeCompute", "Workspace", "checked_finite"]

ChunkFunction = Callable[["Chunk"], "Tensor"]

_PIECE = 1 << 13  # elements that a sample takes from one place
_CROWDED = 1 << 23  # elements; of more in float32, which fill each bin evenly, too many lie near each other


class Workspace:
    """One thread's buffers: they grow to what is needed and are used for tensor after tensor."""

    def __init__(self) -> None:
        self._buffers: dict[str, NDArray[np.uint8]] = {}
        self._nested: list[Workspace] = []

    def nested(self, index: int) -> Workspace:
        """Buffers for what is computed to be read into these."""
        while len(self._nested) <= index:
            self._nested.append(Workspace())
        return self._nested[index]

    def array(self, name: str, shape: tuple[int, ...], dtype: type[np.generic]) -> Bits:
        """A buffer of this shape; what it held before under this name is overwritten."""
        size = math.prod(shape) * np.dtype(dtype).itemsize
        held = self._buffers.get(name)
        if held is None or held.nbytes < size:
            held = self._buffers[name] = np.empty(size, np.uint8)
        return held[:size].view(dtype).reshape(shape)


class NativeCompute:
    """Reads and reduces one tensor's stack.

    Args:
        models: the tensor in each of K models.
        base: in the base, for differences from it.
        shape: its shape.
        key: names it for random numbers.
        workspace: the thread's buffers.
    """

    def __init__(
        self,
        models: Sequence[Rows],
        base: Rows | None,
        shape: tuple[int, ...],
        key: RandomKey,
        workspace: Workspace,
    ) -> None:
        self._operands = [*([base] if base else []), *models]
        self._based = base is not None
        self._count = len(models)
        self._row = shape[-1] if shape else 1
        self._key = key
        self._workspace = workspace
        self._raw = raw_type([operand.dtype for operand in self._operands])
        self._checked = False
        self.elements = math.prod(shape)
        self.survival = np.zeros(4)

    def chunks(self, rows: bool = False, most: int = CHUNK) -> Iterator[tuple[int, Bits]]:
        """First element and ``(R, m)`` raw elements of each chunk, the base first if there is one.

        Args:
            rows: whether chunks are made of whole rows.
            most: elements of a chunk; of one row, if that is longer.

        Raises:
            CheckpointError: where an operand cannot be read, or is not finite.
        """
        for first, size in self._cuts(rows, most):
            yield first, self._held(first, size)
        self._checked = True

    def _cuts(self, rows: bool, most: int) -> Iterator[tuple[int, int]]:
        """First element and size of each chunk."""
        step = max(1, most // self._row) * self._row if rows else most
        for first in range(0, self.elements, step):
            yield first, min(step, self.elements - first)

    def _held(self, first: int, size: int) -> Bits:
        """Raw elements of all operands, ``(R, size)``, in the thread's buffer."""
        held = self._workspace.array("rows", (len(self._operands), size), self._raw)
        for row, operand in zip(held, self._operands, strict=True):
            operand.read(first, row)
            if not self._checked:
                checked_finite(row, operand.origin)
        return held

    def gram(self, rows: bool) -> NDArray[np.float64]:
        """Inner products, ``(1 or n / row, K, K)``; see :class:`~mergery.stack.stack.Compute`."""
        sums = np.zeros((self.elements // self._row if rows else 1, self._count, self._count))
        for first, held in self.chunks(rows):
            begin = first // self._row if rows else 0
            part = sums[begin : begin + held.shape[1] // self._row] if rows else sums
            kernels.gram(held, self._based, self._row if rows else 0, part)
        lower = np.tril(sums)
        return lower + np.tril(sums, -1).transpose(0, 2, 1)

    def magnitudes(self, sparsity: Sparsity) -> NDArray[np.float64]:
        """Sums of magnitudes before and after sparsifying, ``(K, 2)``."""
        sums = np.zeros((self._count, 2))
        packed = self._packed(sparsity)
        for first, held in self.chunks(sparsity.ranked):
            kernels.magnitudes(held, self._based, first, self._row * sparsity.ranked, packed, sums)
        return sums

    def kth_magnitude(self, ranks: Sequence[Sequence[int]]) -> NDArray[np.float64]:
        """Magnitudes by rank (0 the smallest): ``(K, T)`` ranks, ``(K, T)`` values."""
        wanted = np.array(ranks, np.int64)
        sampled = LARGE <= self.elements < (math.inf if self._raw is np.uint16 else _CROWDED)
        found = self._select_near_sample(wanted) if sampled else None
        return self._select(wanted) if found is None else found

    def kth_values(
        self, function: ChunkFunction, ranks: Sequence[Sequence[int]], rows: bool = False
    ) -> NDArray[np.float64]:
        """Values of R expressions by rank: ``(R, T)`` ranks, ``(R, T)`` values."""
        return self._select(np.array(ranks, np.int64), function, rows)

    def count_upper(
        self, counts: NDArray[np.int64], function: ChunkFunction | None = None, rows: bool = False
    ) -> None:
        """Count magnitudes by their upper bits (see :mod:`.order`).

        Args:
            counts: ``(K, 32768)``, added to; as many rows as expressions if there are any.
            function: expressions to count the values of, in the place of the models' magnitudes.
            rows: whether its chunks must be made of whole rows.
        """
        for held, based in self._counted(function, rows):
            kernels.histogram(held, based, counts)

    def count_lower(
        self,
        wanted: NDArray[np.uint32],
        counts: NDArray[np.int64],
        function: ChunkFunction | None = None,
        rows: bool = False,
    ) -> None:
        """Count the lower bits of magnitudes whose upper bits are wanted, ``(K, T)``."""
        for held, based in self._counted(function, rows):
            kernels.refine(held, based, wanted, counts)

    def total(self, function: ChunkFunction, rows: bool = False) -> NDArray[np.float64]:
        """The sum over all chunks of what ``function`` gives for each."""
        total: Any = 0.0
        for first, held in self.chunks(rows, FUNCTION_CHUNK):
            total = total + function(self._chunk(first, held)).double().numpy()
        return np.asarray(total, np.float64)

    def evaluate(self, merged: Merged, dtype: str, *, survival: bool = False) -> Iterator[tuple[int, Bits]]:
        """Compute the result.

        Args:
            merged: what the method answered.
            dtype: of the result, by the safetensors format's name.
            survival: count in ``self.survival`` what the cast leaves of the change from the base.

        Yields:
            First element and raw elements of each chunk; overwritten by the next.
        """
        if isinstance(merged, Combination):
            cuts = self._cuts(merged.sparsity.ranked, CHUNK)
        else:
            cuts = self._cuts(merged.rows, FUNCTION_CHUNK)
        for first, size in cuts:
            held = self._held(first, size)
            exact = self._exact(merged, first, held)
            written = self._cast(exact, dtype)
            if survival and self._based:
                kernels.survival(held[0], exact, self._readable(written, dtype), self.survival)
            yield first, written

    def piece(self, merged: Merged, dtype: str, first: int, size: int) -> Bits:
        """Any elements of the result: raw, from ``first`` on; overwritten by the next."""
        rows = merged.sparsity.ranked if isinstance(merged, Combination) else merged.rows
        begin = first // self._row * self._row if rows else first
        end = -(-(first + size) // self._row) * self._row if rows else first + size
        exact = self._exact(merged, begin, self._held(begin, end - begin))
        return self._cast(exact, dtype)[first - begin : first - begin + size]

    def _exact(self, merged: Merged, first: int, held: Bits) -> Bits:
        """The result of a chunk in float32."""
        if isinstance(merged, Combination):
            row = self._row * merged.sparsity.ranked
            weight = np.array(merged.weight, np.float32)
            share = np.array(merged.shares or merged.weight, np.float32)
            mode = (
                not merged.sparsity.trivial,
                merged.elect,
                merged.shares is not None,
                np.float32(merged.divisor),
                np.float32(merged.factor),
            )
            exact = self._workspace.array("exact", (held.shape[1],), np.float32)
            sparse = self._packed(merged.sparsity)
            kernels.combine(held, self._based, first, row, weight, share, sparse, mode, exact)
            return exact
        chunk = self._chunk(first, held)
        result = merged.function(chunk)
        if merged.factor != 1.0:
            result = result * merged.factor
        return (result if chunk.base is None else chunk.base + result).contiguous().numpy()

    def _chunk(self, first: int, held: Bits) -> Chunk:
        """The operands as torch tensors, for functions of chunks."""
        import torch

        from mergery.stack.chunk import Chunk

        if torch.get_num_threads() != 1:
            # sums in several threads would depend on their number; the setting is this thread's own
            torch.set_num_threads(1)
        size = held.shape[1]
        values = self._workspace.array("values", (self._count, size), np.float32)
        base = self._workspace.array("base", (size,), np.float32)
        kernels.differences(held, self._based, base, values)

        def uniform() -> Tensor:
            numbers = np.empty((self._count, size), np.uint32)
            for model, row in enumerate(numbers):
                kernels.uniform(np.uint64(self._key.stream(model)), first, row)
            return torch.from_numpy(numbers.astype(np.float32)) * 2.0**-24

        return Chunk(
            torch.from_numpy(values),
            torch.from_numpy(base) if self._based else None,
            first,
            self._row,
            uniform,
        )

    def _select(
        self, ranks: NDArray[np.int64], function: ChunkFunction | None = None, rows: bool = False
    ) -> NDArray[np.float64]:
        def histogram() -> NDArray[np.int64]:
            counts = self._zeros("upper counts", (len(ranks), UPPER_BINS))
            self.count_upper(counts, function, rows)
            return counts

        def refine(wanted: NDArray[np.uint32]) -> NDArray[np.int64]:
            counts = self._zeros("lower counts", (*wanted.shape, LOWER_BINS))
            self.count_lower(wanted, counts, function, rows)
            return counts

        return select(histogram, refine, ranks)

    def _select_near_sample(self, ranks: NDArray[np.int64]) -> NDArray[np.float64] | None:
        """Magnitudes by rank in one reading, or two; none where a sample does not lead to them."""
        room = 2 * LOWER_BINS  # the lower counts' memory, which nothing else needs then

        def sift(bounds: NDArray[np.uint32]) -> Sifted | None:
            tallies, sizes = np.zeros((*ranks.shape, 3), np.int64), np.zeros(ranks.shape, np.int64)
            kept = self._workspace.array("lower counts", (*ranks.shape, room), np.uint32)
            for first, held in self.chunks():
                kernels.sift(held, self._based, bounds, tallies, kept, sizes)
                read = (first + held.shape[1]) / self.elements
                if sizes.max() > min(room - BLOCK, room * (0.25 + read)):
                    return None  # full, or on the way to be
            tallies[..., 2] *= bounds[..., 1] > bounds[..., 0]  # else they are those of the first
            return Sifted(tallies, kept, sizes)

        # One element in 16. No piece begins where the tensor does: who reads in order finds it unread.
        pieces = range(8 * _PIECE, self.elements, 16 * _PIECE)
        counts = self._zeros("upper counts", (len(ranks), UPPER_BINS))
        for first in pieces:
            held = self._held(first, min(_PIECE, self.elements - first))
            kernels.histogram(held, self._based, counts)
        return select_near(counts, len(pieces), sift, ranks, self.elements)

    def _zeros(self, name: str, shape: tuple[int, ...]) -> NDArray[np.int64]:
        counts: NDArray[np.int64] = self._workspace.array(name, shape, np.int64)
        counts.fill(0)
        return counts

    def _counted(self, function: ChunkFunction | None, rows: bool) -> Iterator[tuple[Bits, bool]]:
        """What is counted, ``(R, m)``, and whether its first row is a base."""
        for first, held in self.chunks(rows, CHUNK if function is None else FUNCTION_CHUNK):
            if function is None:
                yield held, self._based
            else:
                yield np.atleast_2d(function(self._chunk(first, held)).contiguous().numpy()), False

    def _packed(self, sparsity: Sparsity) -> tuple[Any, ...]:
        """A sparsity in the types that the kernels take."""
        return (
            np.array(
                [sparsity.floor, sparsity.ceiling, sparsity.keep, sparsity.spread, sparsity.scale], np.float64
            ).T.copy(),
            np.array([self._key.stream(model) for model in range(self._count)], np.uint64),
            sparsity.inverse,
        )

    def _cast(self, exact: Bits, dtype: str) -> Bits:
        """The one cast at the end."""
        if dtype == "F32":
            return exact
        if dtype == "BF16":
            written = self._workspace.array("written", exact.shape, np.uint16)
            kernels.narrow(exact, written)
            return written
        with np.errstate(over="ignore"):
            return exact.astype(np.float16 if dtype == "F16" else np.float64)

    def _readable(self, written: Bits, dtype: str) -> Bits:
        """Cast elements in a type that the kernels read."""
        return written if dtype in ("BF16", "F32") else written.astype(np.float32)


def checked_finite(elements: Bits, origin: str) -> None:
    """Make sure that there is neither NaN nor infinity.

    Raises:
        CheckpointError: naming the first such element.
    """
    if not elements.size:
        return
    if elements.dtype == np.uint16:
        worst, limit = kernels.largest_bits(elements, np.uint16(0x7FFF)), 0x7F80
    else:
        worst, limit = kernels.largest_bits(elements.view(np.uint32), np.uint32(0x7FFFFFFF)), 0x7F800000
    if worst >= limit:
        raise CheckpointError(f"{origin} holds NaN or infinite values", fix="merge without this model")
