"""What an interrupted merge had finished: a line for each whole shard, with what is known of its tensors."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

import xxhash

from mergery.checkpoint.safetensors import ShardLayout
from mergery.engine.output import writing

__all__ = ["JOURNAL_FILE", "Journal", "Known", "file_digests"]

JOURNAL_FILE = "merge.journal"
_PIECE = 1 << 20

Known: TypeAlias = Mapping[str, Mapping[str, object]]
"""What is known of the tensors of one shard, by their names."""


class Journal:
    """The record in a staging directory.

    Args:
        directory: where the shards are written.
        key: names the merge: same key, same bytes. What another merge left is not used.
    """

    def __init__(self, directory: Path, key: str) -> None:
        self._directory = directory
        self._file = directory / JOURNAL_FILE
        self._key = key
        self._lock = threading.Lock()

    def verified(self, layouts: Iterable[ShardLayout]) -> dict[str, Known]:
        """The shards that were finished and whose files still hold what was written, by file."""
        finished = self._read()
        found = ((layout, finished.get(layout.file)) for layout in layouts)
        return {
            layout.file: known
            for layout, known in found
            if known is not None and _holds(self._directory / layout.file, layout, known)
        }

    def begin(self, kept: Mapping[str, Known]) -> None:
        """Write the record anew, with the shards that are kept."""
        lines: list[object] = [{"merge": self._key}]
        lines += [{"file": file, "tensors": known} for file, known in kept.items()]
        fresh = self._file.with_suffix(".new")
        with writing(self._file):
            _write(fresh, "w", lines)
            fresh.replace(self._file)

    def finish(self, file: str, known: Known) -> None:
        """Record that a shard is whole, and on the disk."""
        with self._lock, writing(self._file):
            _write(self._file, "a", [{"file": file, "tensors": known}])

    def _read(self) -> dict[str, Known]:
        """The shards that this merge had finished; another merge's are not looked at."""
        lines = _whole_lines(self._file.read_bytes()) if self._file.is_file() else iter(())
        if next(lines, None) != {"merge": self._key}:
            return {}
        finished: dict[str, Known] = {}
        for line in lines:
            match line:
                case {"file": str(file), "tensors": dict(known)} if all(
                    isinstance(evidence, dict) for evidence in known.values()
                ):
                    finished[file] = known
        return finished


def file_digests(file: Path, layout: ShardLayout) -> dict[str, str]:
    """The digest of every tensor's bytes, from the file."""
    places = sorted(layout.starts.items(), key=lambda place: place[1])
    ends = [*(start for _, start in places[1:]), layout.bytes]
    with file.open("rb") as stream:
        return {
            name: _digest(stream.fileno(), start, end - start)
            for (name, start), end in zip(places, ends, strict=True)
        }


def _holds(file: Path, layout: ShardLayout, known: Known) -> bool:
    """Whether a file is the shard that was written: its header, and every tensor by its digest."""
    if not file.is_file() or file.stat().st_size != layout.bytes:
        return False
    with file.open("rb") as stream:
        if stream.read(len(layout.header)) != layout.header:
            return False
    return file_digests(file, layout) == {name: evidence.get("xxh3") for name, evidence in known.items()}


def _digest(descriptor: int, start: int, size: int) -> str:
    digest = xxhash.xxh3_128()
    for place in range(start, start + size, _PIECE):
        digest.update(os.pread(descriptor, min(_PIECE, start + size - place), place))
    return digest.hexdigest()


def _write(file: Path, mode: str, lines: Iterable[object]) -> None:
    with file.open(mode, encoding="utf-8") as stream:
        stream.writelines(json.dumps(line) + "\n" for line in lines)
        stream.flush()
        os.fsync(stream.fileno())


def _whole_lines(content: bytes) -> Iterator[object]:
    """The journal's entries, but one that was being written when the process ended."""
    for line in content.split(b"\n")[:-1]:
        try:
            yield json.loads(line)
        except ValueError:
            return
