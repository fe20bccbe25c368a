"""Reductions over all tensors of a model, for methods that look beyond one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mergery.stack.native import Workspace
from mergery.stack.order import LOWER_BINS, UPPER_BINS, select

if TYPE_CHECKING:
    from torch import Tensor

    from mergery.stack.chunk import Chunk

__all__ = ["ModelReductions"]

Counts = NDArray[np.int64]


class Countable(Protocol):
    """What is asked of each tensor's stack."""

    def count_upper(
        self, counts: Counts, function: Callable[[Chunk], Tensor] | None = None, rows: bool = False
    ) -> None:
        """Count magnitudes, or an expression's values, by upper bits."""
        ...

    def count_lower(
        self,
        wanted: NDArray[np.uint32],
        counts: Counts,
        function: Callable[[Chunk], Tensor] | None = None,
        rows: bool = False,
    ) -> None:
        """Count them by lower bits."""
        ...

    def total(self, function: Callable[[Chunk], Tensor], rows: bool = False) -> NDArray[np.float64]:
        """Sum a function of chunks."""
        ...


class ModelReductions:
    """Reads every tensor once for each reduction, in several threads; what was asked once is kept.

    Args:
        tensors: opens each tensor's stack with a thread's buffers.
        elements: number of elements of one model, over all of them.
        models: K.
        threads: tensors read at a time.
    """

    def __init__(
        self,
        tensors: Sequence[Callable[[Workspace], Countable]],
        elements: int,
        models: int,
        threads: int = 1,
    ) -> None:
        self._tensors, self.elements, self._models, self._threads = tensors, elements, models, threads
        self._known: dict[Hashable, NDArray[Any]] = {}
        self._lock = threading.Lock()

    def kth_magnitude(self, ranks: Sequence[Sequence[int]]) -> NDArray[np.float64]:
        """Magnitudes by rank (0 the smallest): ``(K, T)`` ranks, ``(K, T)`` values."""

        def histogram() -> Counts:
            return self._counted(
                (self._models, UPPER_BINS), lambda tensor, counts: tensor.count_upper(counts)
            )

        def refine(wanted: NDArray[np.uint32]) -> Counts:
            return self._counted(
                (*wanted.shape, LOWER_BINS), lambda tensor, counts: tensor.count_lower(wanted, counts)
            )

        key = ("kth_magnitude", tuple(map(tuple, ranks)))
        return self._once(key, lambda: select(histogram, refine, np.array(ranks, np.int64)))

    def kth_values(
        self, function: Callable[[Chunk], Tensor], ranks: Sequence[Sequence[int]], rows: bool = False
    ) -> NDArray[np.float64]:
        """Values of R expressions by rank: ``(R, T)`` ranks, ``(R, T)`` values."""

        def histogram() -> Counts:
            return self._counted(
                (len(ranks), UPPER_BINS), lambda tensor, counts: tensor.count_upper(counts, function, rows)
            )

        def refine(wanted: NDArray[np.uint32]) -> Counts:
            return self._counted(
                (*wanted.shape, LOWER_BINS),
                lambda tensor, counts: tensor.count_lower(wanted, counts, function, rows),
            )

        key = ("kth_values", function, tuple(map(tuple, ranks)), rows)
        return self._once(key, lambda: select(histogram, refine, np.array(ranks, np.int64)))

    def total(self, function: Callable[[Chunk], Tensor], rows: bool = False) -> NDArray[np.float64]:
        """The sum over all chunks of all tensors of what ``function`` gives for each."""

        def compute() -> NDArray[np.float64]:
            totals = self._each(lambda tensor: tensor.total(function, rows))
            return np.asarray(sum(totals[1:], totals[0]) if totals else 0.0)

        return self._once(("total", function, rows), compute)

    def _once(self, key: Hashable, compute: Callable[[], NDArray[Any]]) -> NDArray[Any]:
        with self._lock:
            if key not in self._known:
                self._known[key] = compute()
            return self._known[key]

    def _counted(self, shape: tuple[int, ...], count: Callable[[Countable, Counts], None]) -> Counts:
        """Sum of the counts over all tensors; each thread has its own until the end."""
        own = threading.local()
        parts: list[Counts] = []

        def work(tensor: Countable) -> None:
            if not hasattr(own, "counts"):
                own.counts = np.zeros(shape, np.int64)
                parts.append(own.counts)
            count(tensor, own.counts)

        self._each(work)
        return sum(parts, np.zeros(shape, np.int64))

    def _each(self, work: Callable[[Countable], Any]) -> list[Any]:
        """What ``work`` gives for every tensor, in their order."""
        own = threading.local()

        def run(open_tensor: Callable[[Workspace], Countable]) -> Any:
            if not hasattr(own, "workspace"):
                own.workspace = Workspace()
            return work(open_tensor(own.workspace))

        with ThreadPoolExecutor(self._threads) as pool:
            return list(pool.map(run, self._tensors))
