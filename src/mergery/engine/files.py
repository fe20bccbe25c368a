"""Input files held open for a merge: read piece by piece, and watched for changes."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from mergery.errors import CheckpointError

__all__ = ["InputFiles"]


class InputFiles:
    """Descriptors by path, opened at first use and shared by all threads."""

    def __init__(self) -> None:
        self._open: dict[Path, tuple[int, tuple[int, ...]]] = {}
        self._lock = threading.Lock()

    def read(self, file: Path, start: int, out: memoryview, *, what: str) -> None:
        """Fill ``out`` with the file's bytes from ``start`` on.

        Args:
            file: the file.
            start: the first byte.
            out: bytes to fill.
            what: the tensor that they belong to, for errors.

        Raises:
            CheckpointError: if the file cannot be read, or ends before.
        """
        descriptor = self._descriptor(file)
        done = 0
        while done < len(out):
            try:
                count = os.preadv(descriptor, [out[done:]], start + done)
            except OSError as problem:
                raise CheckpointError(
                    f"{file}: {what} cannot be read: {problem.strerror}", fix="check the disk, and run again"
                ) from problem
            if not count:
                raise CheckpointError(
                    f"{file}: not a whole safetensors file: it ends inside {what}",
                    fix="download or save the model again",
                )
            done += count

    def prefetch(self, file: Path, start: int, size: int) -> None:
        """Tell the system that these bytes will be read soon."""
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._descriptor(file), start, size, os.POSIX_FADV_WILLNEED)

    def check_unchanged(self) -> None:
        """Make sure that no file has been written or replaced since it was opened.

        Raises:
            CheckpointError: naming the first that has.
        """
        for file, (_, stamp) in self._open.items():
            try:
                now = _stamp(file.stat())
            except OSError:
                now = ()
            if now != stamp:
                raise CheckpointError(
                    f"{file}: it has changed while it was being merged",
                    fix="run the merge again when nothing writes to its inputs",
                )

    def close(self) -> None:
        """Close all."""
        for descriptor, _ in self._open.values():
            os.close(descriptor)
        self._open.clear()

    def _descriptor(self, file: Path) -> int:
        held = self._open.get(file)
        if held is None:
            with self._lock:
                held = self._open.get(file)
                if held is None:
                    held = self._open[file] = _opened(file)
        return held[0]


def _opened(file: Path) -> tuple[int, tuple[int, ...]]:
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as problem:
        raise CheckpointError(
            f"{file}: cannot be read: {problem.strerror}", fix="check the path and its permissions"
        ) from problem
    return descriptor, _stamp(os.fstat(descriptor))


def _stamp(status: os.stat_result) -> tuple[int, ...]:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
