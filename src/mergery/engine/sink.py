"""Where the tensors of a merge go: files laid out in advance, a live model, or nowhere."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING, Protocol, Self

from mergery.checkpoint.checkpoint import INDEX_FILE
from mergery.checkpoint.safetensors import TensorInfo, torch_dtype
from mergery.engine.journal import JOURNAL_FILE, Journal
from mergery.engine.output import writing
from mergery.engine.shards import Evidence, ShardFiles, TensorWriter, shard_layouts
from mergery.errors import CheckpointError
from mergery.stack.rows import Bits

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["DirectorySink", "Evidence", "ModelSink", "NullSink", "Sink", "Writer"]


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


class DirectorySink:
    """Writes safetensors shards of bounded size, each laid out before the first tensor arrives.

    They are written in a directory of their own inside, and come out when they are whole: what has a
    shard's name is finished. A worker that outlives its merge can write to no file of the next one.

    Args:
        directory: an existing directory.
        tensors: all that will be written, in checkpoint order.
        shard_bytes: size of a shard, exceeded only by a single tensor that is larger.
        key: names the merge; shards that an interrupted merge of the same key finished are kept.
    """

    def __init__(self, directory: Path, tensors: Iterable[TensorInfo], shard_bytes: int, key: str) -> None:
        self._directory = directory
        self._layouts = shard_layouts(tensors, shard_bytes)
        self._shards = {name: layout for layout in self._layouts for name in layout.starts}
        self._numbers = {layout.file: number for number, layout in enumerate(self._layouts)}
        self._journal = Journal(directory, key)
        self._known: dict[str, dict[str, Evidence]] = {layout.file: {} for layout in self._layouts}
        self._lock = threading.Lock()

    @property
    def files(self) -> Mapping[str, tuple[str, ...]]:
        """Names of the weight files, and of the tensors in each."""
        return {layout.file: tuple(layout.starts) for layout in self._layouts}

    @property
    def evidence(self) -> Mapping[str, Evidence]:
        """What is known about every tensor, by name, file after file."""
        return {name: self._known[layout.file][name] for layout in self._layouts for name in layout.starts}

    @property
    def workplace(self) -> Path:
        """Where the unfinished shards lie."""
        return self._unfinished.directory

    def shard(self, name: str) -> int:
        """The number of the weight file that a tensor belongs to."""
        return self._numbers[self._shards[name].file]

    def has(self, name: str) -> bool:
        """Whether a tensor was already written, by a merge that was interrupted."""
        return name in self._known[self._shards[name].file]

    def __enter__(self) -> Self:
        kept = self._journal.verified(self._layouts)
        for stray in self._directory.iterdir():
            if stray.name not in (JOURNAL_FILE, *kept):
                _remove(stray)
        self._journal.begin(kept)
        self._known |= {file: dict(known) for file, known in kept.items()}
        workplace = Path(mkdtemp(prefix="unfinished-", dir=self._directory))
        self._unfinished = ShardFiles(
            workplace, [layout for layout in self._layouts if layout.file not in kept]
        )
        try:
            self._unfinished.lay_out()
        except BaseException:
            self._clear()
            raise
        return self

    def open(self, info: TensorInfo) -> TensorWriter:
        """See :class:`Sink`."""
        return TensorWriter(self._unfinished, info.name, self.record)

    def record(self, name: str, evidence: Evidence) -> None:
        """A tensor has been written; with its last one, a shard is finished."""
        layout = self._shards[name]
        known = self._known[layout.file]
        with self._lock:
            known[name] = evidence
            whole = len(known) == len(layout.starts)
        if whole:
            self._unfinished.finish(layout.file)
            (self.workplace / layout.file).rename(self._directory / layout.file)
            self._journal.finish(layout.file, known)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._clear()
        if kind is None and len(self._layouts) > 1:
            self._write_index()

    def _clear(self) -> None:
        """Remove what is not finished: it would be made anew, and the room is needed."""
        self._unfinished.close()
        shutil.rmtree(self.workplace, ignore_errors=True)

    def _write_index(self) -> None:
        size = sum(layout.bytes - len(layout.header) for layout in self._layouts)
        places = {name: layout.file for layout in self._layouts for name in sorted(layout.starts)}
        index = {"metadata": {"total_size": size}, "weight_map": places}
        with writing(self._directory / INDEX_FILE):
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


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
