"""Where the tensors of a merge come from."""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Protocol, Self

import numpy as np
import xxhash

from mergery.checkpoint import TensorInfo
from mergery.checkpoint.safetensors import ITEM_BYTES
from mergery.engine.files import InputFiles
from mergery.stack.kernels import widen
from mergery.stack.rows import ArrayRows, Bits, Rows, raw_type

__all__ = ["DiskSource", "MemorySource", "Source"]

_NUMPY = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16}


class Source(Protocol):
    """Gives the operands of a job."""

    def rows(self, info: TensorInfo) -> Rows:
        """One tensor, to be read piece by piece."""
        ...

    def read_bytes(self, info: TensorInfo, start: int, out: memoryview) -> None:
        """Bytes of one tensor as they are stored, for those that are copied and not merged."""
        ...

    def prefetch(self, info: TensorInfo) -> None:
        """Say that a tensor will be read soon."""
        ...


class DiskSource:
    """Reads from the checkpoints each time; keeps nothing but open files."""

    def __init__(self) -> None:
        self._files = InputFiles()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.check_unchanged()
        finally:
            self._files.close()

    def check_unchanged(self) -> None:
        """Make sure that what was read is still there as it was.

        Raises:
            CheckpointError: naming the first file that has changed.
        """
        self._files.check_unchanged()

    def rows(self, info: TensorInfo) -> Rows:
        """See :class:`Source`."""
        return _StoredRows(self, info)

    def read_bytes(self, info: TensorInfo, start: int, out: memoryview) -> None:
        """See :class:`Source`."""
        self._files.read(info, start, out)

    def prefetch(self, info: TensorInfo) -> None:
        """See :class:`Source`."""
        self._files.prefetch(info)


class _StoredRows:
    """A tensor of a file."""

    def __init__(self, source: DiskSource, info: TensorInfo) -> None:
        self._source, self._info = source, info
        self._digest = xxhash.xxh3_128()
        self._hashed = 0

    @property
    def dtype(self) -> str:
        return self._info.dtype

    @property
    def origin(self) -> str:
        return f"{self._info.file}: {self._info.name}"

    def read(self, start: int, out: Bits) -> None:
        stored = _NUMPY[self._info.dtype]
        held = out if out.dtype == stored else np.empty(out.size, stored)
        data = held.view(np.uint8).data
        self._source.read_bytes(self._info, start * ITEM_BYTES[self._info.dtype], data)
        if start == self._hashed:
            self._digest.update(data)
            self._hashed += out.size
        if held is not out:
            to_float32(held, out)

    @property
    def digest(self) -> str | None:
        """Of the tensor's bytes, once all have been read in order."""
        return self._digest.hexdigest() if self._hashed == self._info.elements else None


def to_float32(held: Bits, out: Bits) -> None:
    """Widen stored elements: bits of bfloat16, or any of numpy's floats."""
    if held.dtype == np.uint16:
        widen(held, out)
    else:
        with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite, and is reported as such
            out[:] = held


class MemorySource:
    """Keeps what it has read once: a search builds thousands of candidates from the same tensors.

    Args:
        source: where it reads.
        device: where it keeps.
    """

    def __init__(self, source: Source, device: str = "cpu") -> None:
        self._source = source
        self._device = device
        self._held: dict[TensorInfo, Rows] = {}
        self._lock = threading.Lock()

    def rows(self, info: TensorInfo) -> Rows:
        """See :class:`Source`."""
        held = self._held.get(info)
        if held is None:
            rows = self._source.rows(info)
            values = np.empty(info.elements, raw_type([rows.dtype]))
            rows.read(0, values)
            with self._lock:
                held = self._held.setdefault(info, self._kept(values, rows.origin))
        return held

    def _kept(self, values: Bits, origin: str) -> Rows:
        if self._device == "cpu":
            return ArrayRows(values, origin)
        from mergery.stack.device import DeviceRows

        return DeviceRows(values, origin, self._device)

    def read_bytes(self, info: TensorInfo, start: int, out: memoryview) -> None:
        """See :class:`Source`."""
        self._source.read_bytes(info, start, out)

    def prefetch(self, info: TensorInfo) -> None:
        """See :class:`Source`."""
