"""Finished measurements, one JSON line each: a benchmark that was interrupted goes on where it stopped."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import asdict
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from bench.measure import Measured

__all__ = ["Record", "Records"]

Record = dict[str, object]
ROOT = Path(__file__).resolve().parent.parent


class Records:
    """The lines of one file. What a measurement is of, its place, is a set of named values.

    Args:
        path: the file; it is made when the first line comes.
        fresh: put the lines of earlier runs aside.
    """

    def __init__(self, path: Path, *, fresh: bool = False) -> None:
        self._path = path
        if fresh and path.exists():
            path.replace(path.with_suffix(".old"))
        self._rows: list[Record] = []
        if path.exists():
            self._rows = [json.loads(line) for line in path.read_text().splitlines()]

    def add(self, measured: Measured, load: float, **place: object) -> Record:
        """Write down one run of a command."""
        values = asdict(measured)
        values.pop("output")
        return self.note(load=load, **values, **place)

    def note(self, **values: object) -> Record:
        """Write down any finding."""
        row: Record = {
            **values,
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            "revision": _revision(),
        }
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as file:
            file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self._rows.append(row)
        return row

    def of(self, **place: object) -> list[Record]:
        """The lines whose values are these."""
        return [row for row in self._rows if all(row.get(key) == value for key, value in place.items())]

    def good(self, **place: object) -> list[Record]:
        """Those of runs that ended well."""
        return [row for row in self.of(**place) if row.get("code") == 0]

    def numbers(self, field: str, **place: object) -> list[float]:
        """One figure of all runs that ended well."""
        return [float(str(row[field])) for row in self.good(**place)]

    def revisions(self, **place: object) -> str:
        """The states of the code that the lines were measured with."""
        return ", ".join(dict.fromkeys(str(row.get("revision")) for row in self.of(**place)))


@cache
def _revision() -> str:
    """The commit, marked with a plus if the package differs from it."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--short", "src") else "")
