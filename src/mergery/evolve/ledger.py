"""What every model answered to every item: kept, so that nothing is asked twice.

Optuna keeps one number a trial; here are the outcomes behind it, one row for every model, evaluator and item.
Reruns, resumed searches, confirmations on more items and reports find what was asked before, whatever set of
items it was part of.
"""

from __future__ import annotations

import hashlib
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from mergery.errors import StudyError

__all__ = ["Answers", "Ledger", "ledger_key"]

_PATIENCE = 60.0
"""Seconds that one process waits for another's entry: many workers share one ledger."""

_PAUSE = 0.01
"""Seconds between two attempts at what SQLite does not wait for."""

_TABLES = """
CREATE TABLE IF NOT EXISTS models (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS outcomes (
    model INTEGER NOT NULL, evaluator TEXT NOT NULL, item TEXT NOT NULL, outcome REAL, smooth REAL,
    PRIMARY KEY (model, evaluator, item)
) WITHOUT ROWID;
"""


@dataclass(frozen=True, eq=False)
class Answers:
    """One model's outcomes on some items.

    Attributes:
        outcomes: ``(items,)`` float32 in the items' order; NaN where the model gave no finite answer.
        smooth: ``(items,)`` float32 their smooth companions; NaN where the evaluator has none.
    """

    outcomes: NDArray[np.float32]
    smooth: NDArray[np.float32]


class Ledger:
    """Outcomes by model, evaluator and item, in one SQLite file. A context manager.

    Args:
        path: the file; made if it does not exist. ``None`` keeps them in memory.

    Raises:
        StudyError: if the file is not a ledger.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._connection = sqlite3.connect(path or ":memory:", isolation_level=None, timeout=_PATIENCE)
        try:
            # a write-ahead log survives the process's death; only the machine's could lose the last entry
            self._wait_to("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.executescript(_TABLES)
        except sqlite3.DatabaseError as problem:
            self._connection.close()
            raise StudyError(
                f"{path}: cannot be used: {problem}", fix="remove it; what the trials answered is asked again"
            ) from problem

    def __enter__(self) -> Ledger:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    def _wait_to(self, change: str) -> None:
        """Run a statement that fails at once, whatever the timeout, while another process opens the file."""
        deadline = time.monotonic() + _PATIENCE
        while True:
            try:
                self._connection.execute(change)
            except sqlite3.OperationalError as problem:
                if problem.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(_PAUSE)
            else:
                return

    def clear(self) -> None:
        """Forget everything."""
        for table in ("outcomes", "models"):
            self._connection.execute(f"DELETE FROM {table}")

    def find(self, model: str, evaluator: str, items: Sequence[str]) -> Answers | None:
        """What a model answered, if it was asked all of these items.

        Args:
            model: its key (:func:`ledger_key`).
            evaluator: name of the evaluator.
            items: the items' hashes.
        """
        rows = self._connection.execute(
            "SELECT item, outcome, smooth FROM outcomes JOIN models ON model = id "
            "WHERE key = ? AND evaluator = ?",
            (model, evaluator),
        )
        known = {item: (outcome, smooth) for item, outcome, smooth in rows}
        if any(item not in known for item in items):
            return None
        # SQLite keeps NaN as NULL, and numpy reads None as NaN
        columns = np.array([known[item] for item in items], dtype=np.float32).reshape(-1, 2)
        return Answers(columns[:, 0].copy(), columns[:, 1].copy())

    def keep(self, model: str, evaluator: str, items: Sequence[str], answers: Answers) -> None:
        """Keep what a model answered, all of it or nothing; what is kept already stays."""
        rows = zip(items, answers.outcomes.tolist(), answers.smooth.tolist(), strict=True)
        with self._connection:  # ends the transaction, whatever happens in it
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.execute("INSERT OR IGNORE INTO models (key) VALUES (?)", (model,))
            (number,) = self._connection.execute("SELECT id FROM models WHERE key = ?", (model,)).fetchone()
            self._connection.executemany(
                "INSERT OR IGNORE INTO outcomes VALUES (?, ?, ?, ?, ?)",
                [(number, evaluator, *row) for row in rows],
            )


def ledger_key(*parts: str) -> str:
    """A model's key: what was merged (recipe, inputs) or what directory it is, all by content."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
