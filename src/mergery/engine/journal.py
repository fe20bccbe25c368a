"""What an interrupted merge had finished: a line for each whole shard, with its tensors' digests."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import xxhash

from mergery.checkpoint.safetensors import ShardLayout

__all__ = ["JOURNAL_FILE", "Journal", "file_digests"]

JOURNAL_FILE = "merge.journal"
_PIECE = 1 << 20


class Journal:
    """The record in a staging directory.

    Args:
        directory: where the shards are written.
        key: names the merge: same key, same bytes. What another merge left is not used.
    """

    def __init__(self, directory: Path, key: str) -> None:
        self._file = directory / JOURNAL_FILE
        self._directory = directory
        self._finished = self._read(key)
        if not self._finished:
            self._write({"merge": key}, "w")

    def verified(self, layout: ShardLayout) -> Mapping[str, str] | None:
        """The digests of a finished shard's tensors, if the file still holds them."""
        digests = self._finished.get(layout.file)
        file = self._directory / layout.file
        if digests is None or not file.exists() or file.stat().st_size != layout.bytes:
            return None
        with file.open("rb") as stream:
            if stream.read(len(layout.header)) != layout.header:
                return None
        return digests if file_digests(file, layout) == digests else None

    def finish(self, file: str, digests: Mapping[str, str]) -> None:
        """Record that a shard is whole, and on the disk."""
        self._write({"file": file, "tensors": dict(digests)}, "a")

    def remove(self) -> None:
        """The merge is complete."""
        self._file.unlink()

    def _read(self, key: str) -> dict[str, dict[str, str]]:
        try:
            lines = [json.loads(line) for line in self._file.read_text(encoding="utf-8").splitlines()]
        except FileNotFoundError:
            return {}
        except ValueError:  # the last line was being written when the process ended
            lines = _whole_lines(self._file)
        if not lines or lines[0] != {"merge": key}:
            return {}
        return {line["file"]: line["tensors"] for line in lines[1:]}

    def _write(self, entry: Mapping[str, object], mode: str) -> None:
        with self._file.open(mode, encoding="utf-8") as stream:
            stream.write(json.dumps(entry) + "\n")
            stream.flush()
            os.fsync(stream.fileno())


def file_digests(file: Path, layout: ShardLayout) -> dict[str, str]:
    """The digest of every tensor's bytes, from the file."""
    digests = {}
    with file.open("rb") as stream:
        ends = sorted([*layout.starts.values(), layout.bytes])
        for name, start in layout.starts.items():
            size = next(end for end in ends if end > start) - start if start < layout.bytes else 0
            digests[name] = _digest(stream.fileno(), start, size)
    return digests


def _digest(descriptor: int, start: int, size: int) -> str:
    digest = xxhash.xxh3_128()
    for place in range(start, start + size, _PIECE):
        digest.update(os.pread(descriptor, min(_PIECE, start + size - place), place))
    return digest.hexdigest()


def _whole_lines(file: Path) -> list[dict[str, dict[str, str]]]:
    lines = []
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:
            break
    return lines
