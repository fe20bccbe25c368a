"""The durable record of a search: an Optuna study, in a journal file or in a database.

A trial is written when it is asked for and again when its outcome is known, and nothing is told to the
algorithm that is not on disk: a search killed at any moment has lost at most the trials that were out. Two
things a kill can leave behind in a journal are mended when the record is opened:

- A line cut short. Optuna's reader passes over it, but the next line would be appended to its stump and
  make the journal unreadable. The stump is cut off.
- Optuna's lock (a symbolic link beside the journal). Optuna waits 30 seconds before it breaks one. Whoever
  opens the record here holds the study's own lock (:mod:`mergery.evolve.home`), which the system frees
  with its process, so a link that stays is a dead process's and is removed at once.

The record opens in Optuna's own tools: ``optuna-dashboard OUT/study/journal.log``.
"""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.storages import BaseStorage, InMemoryStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from mergery.errors import MissingExtraError, StudyError
from mergery.evaluate import Direction
from mergery.evolve.space import Domain
from mergery.evolve.trial import Trial

__all__ = ["Reading", "Record"]

_LOCK_PATIENCE = 0.2
"""Seconds in which a living writer (a dashboard) is sure to have finished its line."""

_ASKED = ("origin", "asked_after", "recipe")
_TOLD = (
    "told",
    "score",
    "values",
    "items",
    "whole",
    "cost",
    "gradient",
    "failure",
    "build_seconds",
    "score_seconds",
    "overhead_seconds",
)


class Record:
    """A search's trials, on disk.

    Args:
        place: the journal file, made if it does not exist; or a database's URL (``postgresql://…``);
            ``None`` keeps the record in memory.
        name: the study's name, which says what is searched.
        directions: which way each objective's score is better.
        names: names of the dimensions.
        domains: what each dimension's values are.

    Raises:
        StudyError: if the journal holds another study, or cannot be read.
    """

    def __init__(
        self,
        place: Path | str | None,
        name: str,
        *,
        directions: Sequence[Direction],
        names: Sequence[str],
        domains: Sequence[Domain],
    ) -> None:
        self._names = tuple(names)
        self._distributions = {key: _distribution(domain) for key, domain in zip(names, domains, strict=True)}
        with _quiet():
            self._storage = _storage(place)
            known = [study.study_name for study in self._storage.get_all_studies()]
            if isinstance(place, Path) and known not in ([], [name]):
                raise StudyError(
                    f"{place}: holds the record of another search",
                    fix="choose another output directory, or put the search file, models and items back",
                )
            if name not in known:
                ways = [StudyDirection[direction.upper()] for direction in directions]
                self._storage.create_new_study(ways, name)
            self._study = self._storage.get_study_id_from_name(name)

    def close(self) -> None:
        """Let go of the database's connections, where it is one."""
        _close(self._storage)

    def trials(self) -> tuple[Trial, ...]:
        """All trials, those still running among them, in the order of asking."""
        return tuple(_trial(found, self._names) for found in self._storage.get_all_trials(self._study))

    def begin(self, trial: Trial) -> None:
        """Write that a trial is out; on disk when this returns."""
        values = dict(zip(self._names, trial.genome or (), strict=False))
        asked = {key: value for key, value in asdict(trial).items() if key in _ASKED}
        with _quiet():
            written = self._storage.create_new_trial(
                self._study,
                optuna.create_trial(
                    state=TrialState.RUNNING,
                    params=values,
                    distributions={name: self._distributions[name] for name in values},
                    user_attrs=asked,
                ),
            )
        number = self._storage.get_trial_number_from_id(written)
        if number != trial.number:
            raise StudyError(
                f"trial {trial.number}: another process wrote trial {number} to this record",
                fix="let one search at a time write to it",
            )

    def finish(self, trial: Trial) -> None:
        """Write a trial's outcome; on disk when this returns."""
        state, values = TrialState.COMPLETE, list(trial.values)
        if trial.score is None:
            state, values = TrialState.FAIL, []
        elif not trial.whole:
            state, values = TrialState.PRUNED, []
        told = {key: value for key, value in asdict(trial).items() if key in _TOLD}
        with _quiet():
            written = self._storage.get_trial_id_from_study_id_trial_number(self._study, trial.number)
            self._storage.set_trial_user_attr(written, "told", told)
            self._storage.set_trial_state_values(written, state, values or None)


@dataclass(frozen=True)
class Reading:
    """What a record holds, as it was read.

    Attributes:
        directions: which way each objective's score is better.
        names: of the dimensions; empty before the first trial in the space.
        trials: in the order of asking.
    """

    directions: tuple[Direction, ...]
    names: tuple[str, ...]
    trials: tuple[Trial, ...]

    @classmethod
    def of(cls, place: Path | str, name: str | None = None) -> Reading:
        """Read a record that a search may be writing to at this moment; nothing is written.

        Args:
            place: the journal file, or a database's URL.
            name: of the study there; a journal has only one.

        Raises:
            StudyError: if it cannot be read.
        """
        try:
            with _quiet(), _reachable(place):
                storage = _opened(place)
                studies = [study for study in storage.get_all_studies() if name in (None, study.study_name)]
        except (OSError, ValueError, KeyError) as problem:
            raise StudyError(
                f"{_shown(place)}: cannot be read: {problem}", fix="restore the file"
            ) from problem
        if not studies:
            return cls((), (), ())
        ways: tuple[Direction, ...] = tuple(
            "maximize" if way == StudyDirection.MAXIMIZE else "minimize" for way in studies[0].directions
        )
        found = storage.get_all_trials(studies[0]._study_id)
        _close(storage)
        names = next((tuple(trial.params) for trial in found if trial.params), ())
        return cls(ways, names, tuple(_trial(trial, names) for trial in found))


def _trial(found: FrozenTrial, names: Sequence[str]) -> Trial:
    attributes = found.user_attrs
    genome = tuple(found.params[name] for name in names) if found.params else None
    told = attributes["told"] if found.state.is_finished() else {}
    gradient = told.get("gradient")
    return Trial(
        number=found.number,
        genome=genome,
        **{key: attributes[key] for key in _ASKED},
        **told
        | ({"values": tuple(told["values"]), "gradient": gradient and tuple(gradient)} if told else {}),
    )


def _storage(place: Path | str | None) -> BaseStorage:
    if place is None:
        return InMemoryStorage()
    if isinstance(place, Path):
        _break_lock(place.absolute())
        _cut_stump(place)
    with _reachable(place):
        return _opened(place)


def _opened(place: Path | str) -> BaseStorage:
    if isinstance(place, str):
        return RDBStorage(place)
    # Optuna's link must not depend on the working directory
    return JournalStorage(JournalFileBackend(str(place.absolute())))


def _close(storage: BaseStorage) -> None:
    if isinstance(storage, RDBStorage):
        storage.remove_session()
        storage.engine.dispose()


@contextmanager
def _reachable(place: Path | str) -> Iterator[None]:
    """Say in our words what is wrong with a database.

    Raises:
        MissingExtraError: if its driver is not installed.
        StudyError: if it cannot be reached.
    """
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except ImportError as problem:
        raise MissingExtraError(
            f"search.storage: {problem}",
            fix="pip install 'mergery[postgresql]', or the database's own driver",
        ) from problem
    except SQLAlchemyError as problem:
        reason = str(problem).partition("\n")[0]
        raise StudyError(
            f"search.storage: {_shown(place)}: {reason}", fix="check the URL, and that the database answers"
        ) from problem


def _shown(place: Path | str) -> str:
    """A file, or a URL without its password."""
    return re.sub(r"(?<=://)([^:@/]*):[^@/]*@", r"\1:***@", str(place))


def _distribution(domain: Domain) -> BaseDistribution:
    if isinstance(domain[0], str):
        return CategoricalDistribution(domain)
    low, high = domain
    return FloatDistribution(float(low), float(high))


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
