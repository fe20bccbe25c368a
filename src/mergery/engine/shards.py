"""Weight files laid out before the first tensor arrives, and filled by whatever thread or process has one."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Self, TypeAlias

import numpy as np
import xxhash

from mergery.checkpoint.checkpoint import SINGLE_FILE
from mergery.checkpoint.safetensors import ShardLayout, TensorInfo
from mergery.engine.direct import OutputFile, Stream
from mergery.engine.output import writing
from mergery.stack.rows import Bits

__all__ = ["Evidence", "PlacedSink", "ShardFiles", "TensorWriter", "shard_layouts"]

_METADATA = {"format": "pt"}

Evidence: TypeAlias = Mapping[str, object]
"""What is known about a finished tensor, as plain data for the record."""


def shard_layouts(tensors: Iterable[TensorInfo], shard_bytes: int) -> list[ShardLayout]:
    """Cut a model into files.

    Args:
        tensors: all of them, in checkpoint order.
        shard_bytes: size of a file, exceeded only by a single tensor that is larger.
    """
    shards = list(_runs(tensors, shard_bytes))
    width = max(5, len(str(len(shards))))
    total = f"{len(shards):0{width}}"
    return [
        ShardLayout.of(
            SINGLE_FILE if len(shards) == 1 else f"model-{number:0{width}}-of-{total}.safetensors",
            shard,
            _METADATA,
        )
        for number, shard in enumerate(shards, 1)
    ]


def _runs(tensors: Iterable[TensorInfo], limit: int) -> Iterator[list[TensorInfo]]:
    """Cut a list of tensors into runs of at most ``limit`` bytes."""
    shard: list[TensorInfo] = []
    size = 0
    for info in tensors:
        if shard and size + info.bytes > limit:
            yield shard
            shard, size = [], 0
        shard.append(info)
        size += info.bytes
    if shard:
        yield shard


class ShardFiles:
    """Files that are being written; each is opened at its first write.

    Args:
        directory: where they lie.
        layouts: what each shall hold.
    """

    def __init__(self, directory: Path, layouts: Iterable[ShardLayout]) -> None:
        self.directory = directory
        self._layouts = list(layouts)
        self._places = {
            name: (layout.file, start) for layout in self._layouts for name, start in layout.starts.items()
        }
        self._open: dict[str, OutputFile] = {}
        self._lock = threading.Lock()

    def lay_out(self) -> None:
        """Make every file, in its whole size and with its header.

        Raises:
            OutputError: if the disk has no room for them.
        """
        for layout in self._layouts:
            file = self.directory / layout.file
            with writing(file):
                descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
                try:
                    _allocate(descriptor, layout.bytes)
                finally:
                    os.close(descriptor)
                self._file(layout.file).write(0, memoryview(layout.header))
                self._close(layout.file)

    def stream(self, name: str) -> tuple[Path, Stream]:
        """A tensor's file, and its place there."""
        file, start = self._places[name]
        path = self.directory / file
        with writing(path):
            return path, Stream(self._file(file), start)

    def finish(self, file: str) -> None:
        """Close a file that is whole, and make sure that it is on the disk."""
        with writing(self.directory / file):
            self._file(file).sync()
        self._close(file)

    def close(self) -> None:
        """Close all that are open."""
        for file in list(self._open):
            self._close(file)

    def _file(self, file: str) -> OutputFile:
        with self._lock:
            if file not in self._open:
                self._open[file] = OutputFile(self.directory / file)
            return self._open[file]

    def _close(self, file: str) -> None:
        with self._lock:
            held = self._open.pop(file, None)
        if held is not None:
            with writing(self.directory / file):
                held.close()


class TensorWriter:
    """Writes one tensor at its place, and takes its digest.

    Args:
        files: where it goes.
        name: which it is.
        complete: told the tensor's name and what is known about it, at the end.
    """

    def __init__(self, files: ShardFiles, name: str, complete: Callable[[str, Evidence], None]) -> None:
        self._name, self._complete = name, complete
        self._path, self._stream = files.stream(name)
        self._digest = xxhash.xxh3_128()

    def write(self, start: int, piece: Bits) -> None:  # noqa: ARG002 - pieces come in order
        """See :class:`~mergery.engine.sink.Writer`."""
        data = piece.view(np.uint8).data
        self._digest.update(data)
        with writing(self._path):
            self._stream.write(data)

    def close(self, evidence: Evidence) -> None:
        """See :class:`~mergery.engine.sink.Writer`."""
        with writing(self._path):
            self._stream.close()
        self._complete(self._name, {"xxh3": self._digest.hexdigest(), **evidence})


class PlacedSink:
    """Fills files that somebody else has laid out, and keeps the evidence for him.

    Attributes:
        evidence: of the tensors written so far, by name.
    """

    def __init__(self, directory: Path, layouts: Iterable[ShardLayout]) -> None:
        self._files = ShardFiles(directory, layouts)
        self.evidence: dict[str, Evidence] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    def open(self, info: TensorInfo) -> TensorWriter:
        """See :class:`~mergery.engine.sink.Sink`."""
        return TensorWriter(self._files, info.name, self.evidence.__setitem__)


def _allocate(descriptor: int, size: int) -> None:
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as problem:
        if problem.errno == errno.ENOSPC:
            raise
        os.truncate(descriptor, size)  # a file system that cannot allocate in advance
