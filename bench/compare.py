"""Two model directories, weight by weight, read in pieces."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

__all__ = ["Likeness", "Tensor", "likeness", "tensors"]

PIECE = 1 << 22
WIDTHS = {"BF16": np.uint16, "F16": np.float16, "F32": np.float32, "F64": np.float64}


@dataclass(frozen=True)
class Tensor:
    """A tensor of floating point on disk.

    Attributes:
        file: where.
        start: its first byte there.
        dtype: as safetensors names it.
        shape: of the tensor.
    """

    file: Path
    start: int
    dtype: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """How many numbers."""
        return math.prod(self.shape)

    def read(self, first: int = 0, count: int = -1) -> np.ndarray:
        """Some of its numbers, flat, in float32 (or in float64, if they are)."""
        kind = np.dtype(WIDTHS[self.dtype])
        count = self.elements - first if count < 0 else count
        stored = np.fromfile(self.file, kind, count, offset=self.start + first * kind.itemsize)
        if self.dtype == "BF16":
            return (stored.astype(np.uint32) << 16).view(np.float32)
        return stored.astype(np.float32) if self.dtype == "F16" else stored


def tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of a model directory, by name."""
    found = {}
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            header = json.loads(opened.read(length))
        for name, entry in header.items():
            if name != "__metadata__":
                start = 8 + length + entry["data_offsets"][0]
                found[name] = Tensor(file, start, entry["dtype"], tuple(entry["shape"]))
    return found


@dataclass(frozen=True)
class Likeness:
    """How near one merge is to another.

    Attributes:
        differing: share of the elements that are not equal.
        largest: the largest difference.
        error: root mean square of the differences, relative to that of the changes from the base.
        change: root mean square of the changes of the one, relative to that of the other.
    """

    differing: float
    largest: float
    error: float
    change: float


def likeness(one: Path, other: Path, base: Path) -> Likeness:
    """Compare two merges of experts of ``base``.

    Raises:
        ValueError: if they do not hold the same tensors.
    """
    elements = differing = 0
    largest = squares = changes_one = changes_other = 0.0
    for left, right, before in _pieces(one, other, base):
        gap = left - right
        elements += gap.size
        differing += int(np.count_nonzero(gap))
        largest = max(largest, float(np.abs(gap).max()))
        squares += _squares(gap)
        changes_one += _squares(left - before)
        changes_other += _squares(right - before)
    return Likeness(
        differing=differing / elements,
        largest=largest,
        error=math.sqrt(squares / changes_other) if changes_other else math.inf,
        change=math.sqrt(changes_one / changes_other) if changes_other else math.inf,
    )


def _squares(values: np.ndarray) -> float:
    wide = values.astype(np.float64)
    return float(wide @ wide)


def _pieces(*folders: Path) -> Iterator[tuple[np.ndarray, ...]]:
    """The same stretch of every model, one after the other."""
    models = [tensors(folder) for folder in folders]
    first = models[0]
    for folder, model in zip(folders, models, strict=True):
        if model.keys() != first.keys():
            raise ValueError(f"{folder} and {folders[0]} do not hold the same tensors")
    for name, tensor in first.items():
        for start in range(0, tensor.elements, PIECE):
            count = min(PIECE, tensor.elements - start)
            yield tuple(model[name].read(start, count) for model in models)
