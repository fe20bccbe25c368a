"""What an interrupted merge had finished: a line for each whole shard, with what is known of its tensors."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

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

    def verified(self, layout: ShardLayout) -> Mapping[str, Mapping[str, object]] | None:
        """What is known of a finished shard's tensors, if the file still holds them."""
        known = self._finished.get(layout.file)
        file = self._directory / layout.file
        if known is None or not file.exists() or file.stat().st_size != layout.bytes:
            return None
        with file.open("rb") as stream:
            if stream.read(len(layout.header)) != layout.header:
                return None
        recorded = {name: evidence.get("xxh3") for name, evidence in known.items()}
        return known if file_digests(file, layout) == recorded else None

    def finish(self, file: str, known: Mapping[str, Mapping[str, object]]) -> None:
        """Record that a shard is whole, and on the disk."""
        self._write({"file": file, "tensors": dict(known)}, "a")

    def remove(self) -> None:
        """The merge is complete."""
        self._file.unlink()

    def _read(self, key: str) -> dict[str, Any]:
        lines = list(_whole_lines(self._file)) if self._file.exists() else []
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
    places = sorted(layout.starts.items(), key=lambda place: place[1])
    ends = [*(start for _, start in places[1:]), layout.bytes]
    with file.open("rb") as stream:
        return {
            name: _digest(stream.fileno(), start, end - start)
            for (name, start), end in zip(places, ends, strict=True)
        }


def _digest(descriptor: int, start: int, size: int) -> str:
    digest = xxhash.xxh3_128()
    for place in range(start, start + size, _PIECE):
        digest.update(os.pread(descriptor, min(_PIECE, start + size - place), place))
    return digest.hexdigest()


def _whole_lines(file: Path) -> Iterator[dict[str, Any]]:
    """The journal's entries, but one that was being written when the process ended."""
    for line in file.read_text(encoding="utf-8").splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            return
