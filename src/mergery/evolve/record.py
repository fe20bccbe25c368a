"""The durable record of a search: an Optuna study in a journal file.

A trial is one line, appended and synced when the trial is complete, so a search killed at any moment has
lost at most the trial it was at. Two things a kill can leave behind are mended when the record is opened:

- A line cut short. Optuna's reader passes over it, but the next line would be appended to its stump and
  make the journal unreadable. The stump is cut off.
- Optuna's lock (a symbolic link beside the journal). Optuna waits 30 seconds before it breaks one. Whoever
  opens the record here holds the study's own lock (:mod:`mergery.evolve.home`), which the system frees
  with its process, so a link that stays is a dead process's and is removed at once.

The journal opens in Optuna's own tools: ``optuna-dashboard OUT/study/journal.log``.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from mergery.errors import StudyError
from mergery.evaluate import Direction
from mergery.evolve.trial import Trial

__all__ = ["Record"]

_LOCK_PATIENCE = 0.2
"""Seconds in which a living writer (a dashboard) is sure to have finished its line."""


class Record:
    """A search's trials, on disk.

    Args:
        path: the journal file; made if it does not exist.
        name: the study's name, which says what is searched.
        direction: which way its score is better.
        names: names of the dimensions.
        bounds: range of each dimension.

    Raises:
        StudyError: if the journal holds another study, or cannot be read.
    """

    def __init__(
        self,
        path: Path,
        name: str,
        *,
        direction: Direction,
        names: Sequence[str],
        bounds: Sequence[tuple[float, float]],
    ) -> None:
        self._names = tuple(names)
        self._distributions: dict[str, BaseDistribution] = {
            key: FloatDistribution(low, high) for key, (low, high) in zip(names, bounds, strict=True)
        }
        journal = path.absolute()  # Optuna's link must not depend on the working directory
        _break_lock(journal)
        _cut_stump(journal)
        with _quiet():
            storage = JournalStorage(JournalFileBackend(str(journal)))
            known = [study.study_name for study in storage.get_all_studies()]
            if known not in ([], [name]):
                raise StudyError(
                    f"{path}: holds the record of another search",
                    fix="choose another output directory, or put the search file, models and items back",
                )
            if not known:
                storage.create_new_study([StudyDirection[direction.upper()]], name)
            self._study = optuna.load_study(
                study_name=name, storage=storage, sampler=optuna.samplers.RandomSampler(seed=0)
            )

    def trials(self) -> tuple[Trial, ...]:
        """All complete trials, in order."""
        return tuple(self._trial(found) for found in self._study.get_trials(deepcopy=False))

    def add(self, trial: Trial) -> None:
        """Append one complete trial; on disk when this returns."""
        state = TrialState.FAIL if trial.score is None else TrialState.COMPLETE
        with _quiet():
            self._study.add_trial(
                optuna.create_trial(
                    state=state,
                    value=trial.score,
                    params=dict(zip(self._names, trial.genome, strict=True)),
                    distributions=self._distributions,
                    user_attrs={
                        "recipe": trial.recipe,
                        "failure": trial.failure,
                        "build_seconds": trial.build_seconds,
                        "score_seconds": trial.score_seconds,
                        "overhead_seconds": trial.overhead_seconds,
                    },
                )
            )

    def _trial(self, found: FrozenTrial) -> Trial:
        attributes = found.user_attrs
        return Trial(
            number=found.number,
            genome=tuple(found.params[name] for name in self._names),
            score=found.value if found.state == TrialState.COMPLETE else None,
            failure=attributes["failure"],
            recipe=attributes["recipe"],
            build_seconds=attributes["build_seconds"],
            score_seconds=attributes["score_seconds"],
            overhead_seconds=attributes["overhead_seconds"],
        )


def _cut_stump(journal: Path) -> None:
    """Cut the journal after its last whole line.

    Raises:
        StudyError: if a line before the last is not what Optuna wrote.
    """
    if not journal.exists():
        return
    content = journal.read_bytes()
    lines = content.splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        if line.endswith(b"\n") and _is_json(line):
            continue
        if number < len(lines):
            raise StudyError(
                f"{journal}:{number}: not a line of a journal",
                fix="restore the file, or choose another directory",
            )
        with journal.open("r+b") as file:
            file.truncate(len(content) - len(line))
            os.fsync(file.fileno())


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def _break_lock(journal: Path) -> None:
    """Remove the lock of a process that was killed while it held it."""
    lock = journal.with_name(journal.name + ".lock")
    if not lock.is_symlink():
        return
    time.sleep(_LOCK_PATIENCE)
    lock.unlink(missing_ok=True)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna from announcing on standard error what it stores."""
    logger = logging.getLogger("optuna")
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)
