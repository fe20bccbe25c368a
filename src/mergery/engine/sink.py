"""Where the tensors of a merge go: files laid out in advance, or a live model."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

import torch

from mergery.checkpoint.checkpoint import INDEX_FILE, SINGLE_FILE
from mergery.checkpoint.safetensors import ShardLayout, TensorInfo
from mergery.errors import CheckpointError

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["DirectorySink", "ModelSink", "Sink"]

_METADATA = {"format": "pt"}


class Sink(Protocol):
    """Takes finished tensors, in any order, from any thread."""

    def write(self, name: str, tensor: Tensor) -> None:
        """Take one tensor."""
        ...


class DirectorySink:
    """Writes safetensors shards of bounded size, each laid out before the first tensor arrives.

    Args:
        directory: an existing directory.
        tensors: all that will be written, in checkpoint order.
        shard_bytes: size of a shard, exceeded only by a single tensor that is larger.
    """

    def __init__(self, directory: Path, tensors: Iterable[TensorInfo], shard_bytes: int) -> None:
        self._directory = directory
        shards = list(_shards(tensors, shard_bytes))
        width = max(5, len(str(len(shards))))
        total = f"{len(shards):0{width}}"
        self._layouts = [
            ShardLayout.of(
                SINGLE_FILE if len(shards) == 1 else f"model-{number:0{width}}-of-{total}.safetensors",
                shard,
                _METADATA,
            )
            for number, shard in enumerate(shards, 1)
        ]
        self._size = sum(info.bytes for shard in shards for info in shard)
        self._open = ExitStack()
        self._places: dict[str, tuple[int, int]] = {}

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the weight files."""
        return tuple(layout.file for layout in self._layouts)

    def __enter__(self) -> Self:
        for layout in self._layouts:
            stream = self._open.enter_context((self._directory / layout.file).open("wb", buffering=0))
            stream.truncate(layout.bytes)
            stream.write(layout.header)
            self._places |= {name: (stream.fileno(), start) for name, start in layout.starts.items()}
        return self

    def write(self, name: str, tensor: Tensor) -> None:
        """Write one tensor at its place."""
        descriptor, start = self._places[name]
        view = memoryview(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        done = 0
        while done < len(view):
            done += os.pwrite(descriptor, view[done:], start + done)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            for descriptor in dict.fromkeys(descriptor for descriptor, _ in self._places.values()):
                os.fsync(descriptor)
        self._open.close()
        if kind is None and len(self._layouts) > 1:
            index = {
                "metadata": {"total_size": self._size},
                "weight_map": {
                    name: layout.file for layout in self._layouts for name in sorted(layout.starts)
                },
            }
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

    def write(self, name: str, tensor: Tensor) -> None:
        """Copy one tensor into its parameter."""
        self._tensors[name].copy_(tensor)


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
