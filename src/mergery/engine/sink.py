"""Where the tensors of a merge go: files laid out in advance, a live model, or nowhere."""

from __future__ import annotations

import errno
import json
import os
import shutil
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self, TypeAlias

import numpy as np
import xxhash

from mergery.checkpoint.checkpoint import INDEX_FILE, SINGLE_FILE
from mergery.checkpoint.safetensors import ShardLayout, TensorInfo, torch_dtype
from mergery.engine.journal import JOURNAL_FILE, Journal
from mergery.errors import CheckpointError, OutputError
from mergery.stack.rows import Bits

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["DirectorySink", "Evidence", "ModelSink", "NullSink", "Sink", "Writer"]

_METADATA = {"format": "pt"}

Evidence: TypeAlias = Mapping[str, object]
"""What is known about a finished tensor, as plain data for the record."""


class Writer(Protocol):
    """Takes one tensor."""

    def write(self, start: int, piece: Bits) -> None:
        """Take elements from a first one on; in order, without gaps."""
        ...

    def close(self, evidence: Evidence) -> None:
        """The tensor is complete."""
        ...


class Sink(Protocol):
    """Takes finished tensors, in any order, from any thread."""

    def open(self, info: TensorInfo) -> Writer:
        """Begin one tensor."""
        ...


class _Shard:
    """One file being written.

    Attributes:
        layout: where its tensors stand.
        evidence: of the tensors that are complete.
    """

    def __init__(self, directory: Path, layout: ShardLayout, known: Mapping[str, Evidence] | None) -> None:
        self.layout = layout
        self.evidence = dict(known or {})
        self.file = directory / layout.file
        self._lock = threading.Lock()
        self._descriptor = -1 if known is not None else self._laid_out()

    def write(self, start: int, piece: memoryview) -> None:
        """Write bytes at their place."""
        done = 0
        with _writing(self.file):
            while done < len(piece):
                done += os.pwrite(self._descriptor, piece[done:], start + done)

    def complete(self, name: str, evidence: Evidence) -> bool:
        """Record a tensor; whether it was the last one."""
        with self._lock:
            self.evidence[name] = evidence
            return len(self.evidence) == len(self.layout.starts)

    def close(self, *, sync: bool) -> None:
        """Close the file, and make sure that it is on the disk."""
        if self._descriptor >= 0:
            if sync:
                with _writing(self.file):
                    os.fsync(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1

    def _laid_out(self) -> int:
        with _writing(self.file):
            descriptor = os.open(self.file, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
            try:
                os.posix_fallocate(descriptor, 0, self.layout.bytes)
            except OSError as problem:
                if problem.errno == errno.ENOSPC:
                    raise
                os.truncate(descriptor, self.layout.bytes)  # a file system that cannot allocate in advance
            os.pwrite(descriptor, self.layout.header, 0)
        return descriptor


class _ShardWriter:
    """Writes one tensor at its place in a shard."""

    def __init__(self, shard: _Shard, name: str, journal: Journal) -> None:
        self._shard, self._name, self._journal = shard, name, journal
        self._begin = shard.layout.starts[name]
        self._digest = xxhash.xxh3_128()

    def write(self, start: int, piece: Bits) -> None:
        data = piece.view(np.uint8).data
        self._digest.update(data)
        self._shard.write(self._begin + start * piece.itemsize, data)

    def close(self, evidence: Evidence) -> None:
        known = {"xxh3": self._digest.hexdigest(), **evidence}
        if self._shard.complete(self._name, known):
            self._shard.close(sync=True)
            self._journal.finish(self._shard.layout.file, self._shard.evidence)


class DirectorySink:
    """Writes safetensors shards of bounded size, each laid out before the first tensor arrives.

    Args:
        directory: an existing directory.
        tensors: all that will be written, in checkpoint order.
        shard_bytes: size of a shard, exceeded only by a single tensor that is larger.
        key: names the merge; shards that an interrupted merge of the same key finished are kept.
    """

    def __init__(self, directory: Path, tensors: Iterable[TensorInfo], shard_bytes: int, key: str) -> None:
        self._directory = directory
        self._layouts = _layouts(list(_shards(tensors, shard_bytes)))
        self._journal = Journal(directory, key)
        self._shards: list[_Shard] = []
        self._places: dict[str, _Shard] = {}

    @property
    def files(self) -> Mapping[str, tuple[str, ...]]:
        """Names of the weight files, and of the tensors in each."""
        return {layout.file: tuple(layout.starts) for layout in self._layouts}

    @property
    def evidence(self) -> Mapping[str, Evidence]:
        """What is known about every tensor, by name, file after file."""
        return {name: shard.evidence[name] for shard in self._shards for name in shard.layout.starts}

    def has(self, name: str) -> bool:
        """Whether a tensor was already written, by a merge that was interrupted."""
        return name in self._places[name].evidence

    def __enter__(self) -> Self:
        for stray in self._directory.iterdir():
            if stray.name not in (JOURNAL_FILE, *self.files):
                shutil.rmtree(stray) if stray.is_dir() else stray.unlink()
        for layout in self._layouts:
            shard = _Shard(self._directory, layout, self._journal.verified(layout))
            self._shards.append(shard)
            self._places |= dict.fromkeys(layout.starts, shard)
        return self

    def open(self, info: TensorInfo) -> Writer:
        """See :class:`Sink`."""
        return _ShardWriter(self._places[info.name], info.name, self._journal)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for shard in self._shards:
            shard.close(sync=False)
        if kind is None:
            if len(self._layouts) > 1:
                self._write_index()
            self._journal.remove()

    def _write_index(self) -> None:
        size = sum(layout.bytes - len(layout.header) for layout in self._layouts)
        places = {name: layout.file for layout in self._layouts for name in sorted(layout.starts)}
        index = {"metadata": {"total_size": size}, "weight_map": places}
        (self._directory / INDEX_FILE).write_text(json.dumps(index, indent=2) + "\n")


class ModelSink:
    """Writes into the parameters of a live model, in their own dtype and on their own device."""

    def __init__(self, model: nn.Module) -> None:
        self._tensors = model.state_dict(keep_vars=False)

    def check(self, names: Iterable[str]) -> None:
        """Every tensor of the merge must have its place in the model.

        Raises:
            CheckpointError: if the model knows a tensor by another name.
        """
        for name in names:
            if name not in self._tensors:
                raise CheckpointError(
                    f"{name}: the live model has no such tensor",
                    fix="merge to a directory, and score that, for this architecture",
                )

    def open(self, info: TensorInfo) -> Writer:
        """See :class:`Sink`."""
        return _ModelWriter(self._tensors[info.name], info.dtype)


class _ModelWriter:
    """Writes into one parameter."""

    def __init__(self, parameter: Tensor, dtype: str) -> None:
        self._flat, self._dtype = parameter.view(-1), torch_dtype(dtype)

    def write(self, start: int, piece: Bits) -> None:
        import torch

        elements = torch.from_numpy(piece).view(self._dtype)
        first = start * piece.itemsize // self._dtype.itemsize
        self._flat[first : first + elements.numel()].copy_(elements)

    def close(self, evidence: Evidence) -> None:
        """Nothing is left to do."""


class NullSink:
    """Takes everything and keeps nothing: for measuring what a merge costs without its output."""

    def open(self, info: TensorInfo) -> Writer:  # noqa: ARG002 - the protocol's
        """See :class:`Sink`."""
        return self

    def write(self, start: int, piece: Bits) -> None:
        """Forget it."""

    def close(self, evidence: Evidence) -> None:
        """Nothing is left to do."""


@contextmanager
def _writing(file: Path) -> Iterator[None]:
    """Turn the system's errors into ours."""
    try:
        yield
    except OSError as problem:
        full = problem.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        raise OutputError(
            f"{file.name}: cannot be written: {problem.strerror}",
            fix="make room on the disk and run the same command again: finished shards are kept"
            if full
            else "check the disk and its permissions, and run the same command again",
        ) from problem


def _layouts(shards: list[list[TensorInfo]]) -> list[ShardLayout]:
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


def _shards(tensors: Iterable[TensorInfo], limit: int) -> Iterator[list[TensorInfo]]:
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
