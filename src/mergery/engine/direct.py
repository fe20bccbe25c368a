"""Output files that are written past the system's cache of files, from any thread, at any place.

What is written through the cache is copied into it first, takes fresh memory there, pushes out the models
that are being read, and is written in the end anyway. So whole blocks go to the disk directly, where the
file system can do that; what is beside them goes through the cache.
"""

from __future__ import annotations

import errno
import mmap
import os
import threading
from pathlib import Path

__all__ = ["OutputFile", "Stream"]

_BLOCK = max(4096, mmap.PAGESIZE)
_BUFFER = 1 << 22
_LEAST = 1 << 20  # fewer bytes are not worth waiting for the disk
_spare = threading.local()  # each thread's buffer between two streams; it begins at a page's border


class OutputFile:
    """A file that exists in its whole size.

    Never made here: after a merge's end its directory is gone, and so is the file. Never opened for reading:
    NFS would write back, with our bytes, old ones of other machines on their page.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self._cached = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        self._direct = _open_directly(path)

    def write(self, place: int, data: memoryview) -> None:
        """Write bytes, from ``place`` on, through the cache."""
        _write(self._cached, place, data)

    def write_blocks(self, place: int, blocks: memoryview) -> None:
        """Write whole blocks at the place of blocks, from memory that begins at a block's border."""
        if self._direct is not None:
            try:
                _write(self._direct, place, blocks)
                return
            except OSError as problem:
                if problem.errno != errno.EINVAL:  # some file systems say only now that they cannot
                    raise
        _write(self._cached, place, blocks)

    def sync(self) -> None:
        """Wait until all is on the disk."""
        os.fsync(self._cached)

    def close(self) -> None:
        """Close it."""
        if self._direct is not None:
            os.close(self._direct)
        os.close(self._cached)


class Stream:
    """Bytes that follow each other in a file, collected to be written in large pieces.

    Args:
        file: where they go.
        place: where the first one goes.
    """

    def __init__(self, file: OutputFile, place: int) -> None:
        self._file = file
        self._buffer = _spare.__dict__.pop("buffer", None) or memoryview(mmap.mmap(-1, _BUFFER))
        self._window = place // _BLOCK * _BLOCK  # the place of the buffer's first byte
        self._begin = self._end = place - self._window

    def write(self, data: memoryview) -> None:
        """Take bytes; the caller may overwrite them afterwards."""
        while data:
            taken = data[: len(self._buffer) - self._end]
            self._buffer[self._end : self._end + len(taken)] = taken
            self._end += len(taken)
            data = data[len(taken) :]
            if self._end == len(self._buffer):
                self._flush()
                self._window += self._end
                self._begin = self._end = 0

    def close(self) -> None:
        """Write what is left; the thread's next stream gets the buffer."""
        self._flush()
        _spare.buffer = self._buffer

    def _flush(self) -> None:
        """Write what is held: whole blocks directly, the ends beside them through the cache."""
        begin, end = self._begin, self._end
        first, last = -(-begin // _BLOCK) * _BLOCK, end // _BLOCK * _BLOCK
        if last - first < _LEAST:
            first = last = end
        for write, start, stop in (
            (self._file.write, begin, first),
            (self._file.write_blocks, first, last),
            (self._file.write, last, end),
        ):
            if start < stop:
                write(self._window + start, self._buffer[start:stop])


def _open_directly(path: Path) -> int | None:
    if hasattr(os, "O_DIRECT"):
        try:
            return os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_DIRECT)
        except OSError as problem:
            if problem.errno != errno.EINVAL:
                raise
    return None


def _write(descriptor: int, place: int, data: memoryview) -> None:
    while data:
        written = os.pwrite(descriptor, data, place)
        place += written
        data = data[written:]
