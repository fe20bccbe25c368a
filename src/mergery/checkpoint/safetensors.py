"""The safetensors format, read by its header and laid out before it is written.

A file is eight bytes with the header's length (little endian), the header (JSON: for each tensor its
dtype, shape and place), and the tensors' bytes without a gap.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

from mergery.checkpoint.architecture import Role, layer_name, role
from mergery.errors import CheckpointError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = [
    "ITEM_BYTES",
    "FileStamp",
    "ShardLayout",
    "TensorInfo",
    "dtype_name",
    "read_header",
    "read_tensor",
    "torch_dtype",
]

_LENGTH_BYTES = 8
_HEADER_LIMIT = 100_000_000
_ALIGNMENT = 8

_TORCH_NAMES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}
ITEM_BYTES = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
}
"""Size of one element, by the format's name of its dtype."""


class FileStamp(NamedTuple):
    """What tells one state of a file from another, without reading it.

    Attributes:
        device: the file system.
        inode: the file's number there; a file that replaces another has a number of its own.
        size: bytes.
        modified: when it was last written, in nanoseconds.
    """

    device: int
    inode: int
    size: int
    modified: int

    @classmethod
    def of(cls, status: os.stat_result) -> Self:
        """From what the system says of a file."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


@dataclass(frozen=True)
class TensorInfo:
    """One tensor of a file, known from the header.

    Attributes:
        name: its full name.
        dtype: the format's name of its type (``BF16``).
        shape: its shape; ``()`` for a scalar.
        file: the file that holds it.
        start: its first byte in the file.
        stamp: the file as it was when its header was read: in another state, nothing of this holds.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    file: Path
    start: int
    stamp: FileStamp | None = field(default=None, compare=False, repr=False)

    @cached_property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Size in the file."""
        return self.elements * ITEM_BYTES[self.dtype]

    @property
    def is_float(self) -> bool:
        """Whether it can be merged; other tensors are copied."""
        return "F" in self.dtype

    @cached_property
    def layer(self) -> int | None:
        """Its layer's number."""
        found = layer_name(self.name)
        return found.index if found else None

    @cached_property
    def role(self) -> Role:
        """What it does in the model."""
        return role(self.name)


def read_header(file: Path) -> tuple[TensorInfo, ...]:
    """Read what a safetensors file holds, and check that it holds it.

    Args:
        file: the file; only its header is read.

    Returns:
        Its tensors in the order of their bytes.

    Raises:
        CheckpointError: if the file cannot be read, is cut short, or its header is not sound.
    """
    try:
        with file.open("rb") as stream:
            stamp = FileStamp.of(os.fstat(stream.fileno()))
            size = stamp.size
            length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
            if size < _LENGTH_BYTES or length > min(_HEADER_LIMIT, size - _LENGTH_BYTES):
                raise _broken(file, f"its header would take {length} bytes and the file has {size}")
            header = json.loads(stream.read(length), object_pairs_hook=lambda pairs: _no_twins(file, pairs))
    except OSError as problem:
        raise CheckpointError(
            f"{file}: cannot be read: {problem.strerror}", fix="check the path and its permissions"
        ) from problem
    except ValueError as problem:
        raise _broken(file, "its header is not JSON") from problem
    start = _LENGTH_BYTES + length
    tensors = [
        _tensor(file, name, entry, start, stamp) for name, entry in header.items() if name != "__metadata__"
    ]
    tensors.sort(key=lambda tensor: (tensor.start, tensor.bytes))
    for tensor in tensors:
        if tensor.start != start:
            raise _broken(file, f"the bytes of {tensor.name} overlap others or leave a gap")
        start += tensor.bytes
    if start != size:
        raise _broken(file, f"its header speaks of {start} bytes and the file has {size}")
    return tuple(tensors)


def read_tensor(info: TensorInfo) -> Tensor:
    """Read one tensor, in its own dtype, into fresh memory on the CPU.

    Raises:
        CheckpointError: if the file has become shorter than its header said.
    """
    import torch

    buffer = torch.empty(info.bytes, dtype=torch.uint8)
    view: memoryview = buffer.numpy().data
    with info.file.open("rb", buffering=0) as stream:
        done = 0
        while done < info.bytes:
            count = os.preadv(stream.fileno(), [view[done:]], info.start + done)
            if not count:
                raise _broken(info.file, f"it ends inside {info.name}")
            done += count
    return buffer.view(torch_dtype(info.dtype)).reshape(info.shape)


def torch_dtype(name: str) -> torch.dtype:
    """The torch type for the format's name (``BF16``)."""
    import torch

    found = getattr(torch, _TORCH_NAMES[name])
    assert isinstance(found, torch.dtype)
    return found


def dtype_name(torch_name: str) -> str:
    """The format's name for a torch type's name (``bfloat16``)."""
    return next(name for name, known in _TORCH_NAMES.items() if known == torch_name)


@dataclass(frozen=True)
class ShardLayout:
    """Where every tensor of one file will stand, before any is written.

    Attributes:
        file: the file's name.
        header: its first bytes, up to the tensors.
        starts: first byte of each tensor in the file, by name.
        bytes: the file's whole size.
    """

    file: str
    header: bytes
    starts: Mapping[str, int]
    bytes: int

    @classmethod
    def of(cls, file: str, tensors: Iterable[TensorInfo], metadata: Mapping[str, str]) -> ShardLayout:
        """Lay out one file; wider types first, so that every tensor is aligned to its own size."""
        entries: dict[str, object] = {"__metadata__": dict(metadata)}
        offsets: dict[str, int] = {}
        end = 0
        for tensor in sorted(tensors, key=lambda tensor: -ITEM_BYTES[tensor.dtype]):
            offsets[tensor.name] = end
            end += tensor.bytes
            entries[tensor.name] = {
                "dtype": tensor.dtype,
                "shape": tensor.shape,
                "data_offsets": (offsets[tensor.name], end),
            }
        text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-len(text) % _ALIGNMENT)
        header = len(text).to_bytes(_LENGTH_BYTES, "little") + text
        starts = {name: len(header) + offset for name, offset in offsets.items()}
        return cls(file, header, starts, len(header) + end)


def _tensor(file: Path, name: str, entry: object, data_start: int, stamp: FileStamp) -> TensorInfo:
    match entry:
        case {"dtype": str(dtype), "shape": list(shape), "data_offsets": [int(start), int(end)]} if all(
            isinstance(side, int) and side >= 0 for side in shape
        ):
            if dtype not in ITEM_BYTES:
                raise CheckpointError(
                    f"{file}: {name} has dtype {dtype}, which cannot be merged",
                    fix="convert the model to bfloat16, float16 or float32 first",
                )
            info = TensorInfo(name, dtype, tuple(shape), file, data_start + start, stamp)
            if info.bytes == end - start:
                return info
    raise _broken(file, f"its header's entry for {name} is not sound")


def _no_twins(file: Path, pairs: list[tuple[str, object]]) -> dict[str, object]:
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise _broken(file, "its header names a tensor twice")
    return entries


def _broken(file: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{file}: not a whole safetensors file: {reason}", fix="download or save the model again"
    )
