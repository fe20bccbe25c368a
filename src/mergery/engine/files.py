"""Input files held open for a merge: read piece by piece, and watched for changes."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from pathlib import Path

from mergery.checkpoint import TensorInfo
from mergery.checkpoint.safetensors import FileStamp
from mergery.errors import CheckpointError

__all__ = ["InputFiles", "check_unchanged"]


class InputFiles:
    """Descriptors by path, opened at first use and shared by all threads."""

    def __init__(self) -> None:
        self._open: dict[Path, tuple[int, FileStamp]] = {}
        self._lock = threading.Lock()

    def read(self, info: TensorInfo, start: int, out: memoryview) -> None:
        """Fill ``out`` with a tensor's bytes.

        Args:
            info: the tensor.
            start: its first byte that is wanted.
            out: bytes to fill.

        Raises:
            CheckpointError: if the file cannot be read, ends before, or is not as it was when its header
                was read.
        """
        descriptor = self._descriptor(info)
        done = 0
        while done < len(out):
            try:
                count = os.preadv(descriptor, [out[done:]], info.start + start + done)
            except OSError as problem:
                raise CheckpointError(
                    f"{info.file}: {info.name} cannot be read: {problem.strerror}",
                    fix="check the disk, and run again",
                ) from problem
            if not count:
                raise CheckpointError(
                    f"{info.file}: not a whole safetensors file: it ends inside {info.name}",
                    fix="download or save the model again",
                )
            done += count

    def prefetch(self, info: TensorInfo) -> None:
        """Tell the system that a tensor will be read soon."""
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(self._descriptor(info), info.start, info.bytes, os.POSIX_FADV_WILLNEED)

    def check_unchanged(self) -> None:
        """Make sure that no file has been written or replaced since its header was read.

        Raises:
            CheckpointError: naming the first that has.
        """
        check_unchanged({file: stamp for file, (_, stamp) in list(self._open.items())})

    def close(self) -> None:
        """Close all."""
        for descriptor, _ in self._open.values():
            os.close(descriptor)
        self._open.clear()

    def _descriptor(self, info: TensorInfo) -> int:
        held = self._open.get(info.file)
        if held is None:
            with self._lock:
                held = self._open.get(info.file)
                if held is None:
                    held = self._open[info.file] = _opened(info)
        return held[0]


def check_unchanged(stamps: Mapping[Path, FileStamp]) -> None:
    """Make sure that files are as they were when they were stamped.

    Raises:
        CheckpointError: naming the first that is not.
    """
    for file, stamp in stamps.items():
        try:
            now = FileStamp.of(file.stat())
        except OSError:
            now = None
        if now != stamp:
            raise _changed(file)


def _opened(info: TensorInfo) -> tuple[int, FileStamp]:
    try:
        descriptor = os.open(info.file, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as problem:
        raise CheckpointError(
            f"{info.file}: cannot be read: {problem.strerror}", fix="check the path and its permissions"
        ) from problem
    stamp = FileStamp.of(os.fstat(descriptor))
    if info.stamp not in (None, stamp):
        os.close(descriptor)
        raise _changed(info.file)
    return descriptor, stamp


def _changed(file: Path) -> CheckpointError:
    return CheckpointError(
        f"{file}: it has changed while it was being merged",
        fix="run the merge again when nothing writes to its inputs",
    )
