"""What every model answered to every item: kept, so that nothing is scored twice.

Optuna keeps one number a trial; here are the outcomes behind it. A candidate that was scored when the search
was killed, but not yet recorded, is found here by what was merged and what was asked.
"""

from __future__ import annotations

import hashlib
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from mergery.errors import StudyError

__all__ = ["Entry", "Ledger", "ledger_key"]


@dataclass(frozen=True, eq=False)
class Entry:
    """One model's outcomes.

    Attributes:
        outcomes: ``(items,)`` float32 in item order.
        build_seconds: merging or loading it.
        score_seconds: scoring it.
    """

    outcomes: NDArray[np.float32]
    build_seconds: float
    score_seconds: float


class Ledger:
    """Outcomes by key, in one SQLite file. A context manager.

    Args:
        path: the file; made if it does not exist.

    Raises:
        StudyError: if the file is not a ledger.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection = sqlite3.connect(path, isolation_level=None)
        try:
            # a write-ahead log survives the process's death; only the machine's could lose the last entry
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS outcomes "
                "(key TEXT PRIMARY KEY, outcomes BLOB NOT NULL, build_seconds REAL, score_seconds REAL)"
            )
        except sqlite3.DatabaseError as problem:
            self._connection.close()
            raise StudyError(
                f"{path}: cannot be used: {problem}", fix="remove it; the trials stand in the journal"
            ) from problem

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._connection.close()

    def get(self, key: str) -> Entry | None:
        """What is kept under ``key``."""
        row = self._connection.execute(
            "SELECT outcomes, build_seconds, score_seconds FROM outcomes WHERE key = ?", (key,)
        ).fetchone()
        return None if row is None else Entry(np.frombuffer(row[0], dtype="<f4"), row[1], row[2])

    def put(self, key: str, entry: Entry) -> None:
        """Keep an entry; what is kept already stays."""
        self._connection.execute(
            "INSERT OR IGNORE INTO outcomes VALUES (?, ?, ?, ?)",
            (key, entry.outcomes.astype("<f4").tobytes(), entry.build_seconds, entry.score_seconds),
        )


def ledger_key(*parts: str) -> str:
    """A key for what was merged (recipe, inputs) and what was asked (items, evaluator)."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
