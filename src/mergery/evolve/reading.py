"""A search's directory, read: its trials, the best of them, the front; also while the search runs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mergery.errors import OutputError, StudyError
from mergery.evaluate import Direction
from mergery.evolve.home import Home, write_whole
from mergery.evolve.search import SearchSpec
from mergery.evolve.trial import Trial, best_trial

__all__ = ["StudyReading", "state_of"]

_ORDER = ("whole", "given up", "gradient", "failed", "running")

_FORMATS = (".csv", ".json")


@dataclass(frozen=True)
class StudyReading:
    """What there is to know of a search from its directory. Nothing is locked, nothing is written.

    Attributes:
        home: the directory.
        spec: the search, as it was begun or continued last.
        directions: which way each objective's score is better.
        names: of the dimensions; empty before the first trial in the space.
        trials: in the order of asking.
    """

    home: Home
    spec: SearchSpec
    directions: tuple[Direction, ...]
    names: tuple[str, ...]
    trials: tuple[Trial, ...]

    @classmethod
    def open(cls, out: Path | str) -> StudyReading:
        """Read a directory of ``mergery evolve``.

        Raises:
            StudyError: if no search has been there, or its record cannot be read.
        """
        from mergery.evolve.record import Reading

        home = Home(Path(out))
        if not home.search.is_file():
            inner = [place for place in ("weights", "paths") if Home(home.out / place).search.is_file()]
            where = " or ".join(f"{home.out}/{place}" for place in inner)
            raise StudyError(
                f"{home.out}: " + (f"holds {len(inner)} of two searches" if inner else "holds no search"),
                fix=f"give {where}" if inner else "give a directory that mergery evolve has written",
            )
        spec = home.owner()
        if home.journal.is_file():
            found = Reading.of(home.journal)
        elif spec.search.storage is not None and home.name.is_file():
            found = Reading.of(spec.search.storage, home.name.read_text(encoding="utf-8"))
        else:
            found = Reading((), (), ())
        return cls(home, spec, found.directions, found.names, found.trials)

    @property
    def direction(self) -> Direction:
        """Which way the score is better."""
        return "minimize" if all(way == "minimize" for way in self.directions) else "maximize"

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the objectives, if there are several."""
        return tuple(self.spec.tasks) if len(self.directions) > 1 else ()

    @property
    def ranked(self) -> tuple[Trial, ...]:
        """All trials, the best first: those asked all items, then those given up, then the rest."""
        return tuple(
            sorted(
                self.trials,
                key=lambda trial: (
                    _ORDER.index(state_of(trial)),
                    trial.loss(self.direction) if trial.gradient is None else 0.0,
                    trial.number,
                ),
            )
        )

    @cached_property
    def front(self) -> tuple[Trial, ...]:
        """The trials that no other beats in every objective, on the items that the search sees.

        Raises:
            StudyError: if the search has one objective.
        """
        from mergery.evolve.front import front_of

        if not self.spec.search.objectives:
            raise StudyError(
                f"{self.home.out}: a search for one objective has no front",
                fix="look at the best with mergery study best; or search with objectives: true",
            )
        return front_of(self.trials, self.directions)

    @cached_property
    def finished(self) -> bool:
        """Whether the best recipe, its model and the report are those of all trials."""
        if not (self.home.best.is_file() and self.home.report.is_file()):
            return False
        report = json.loads(self.home.report.read_text(encoding="utf-8"))
        return bool(report["trials"] == len(self.trials)) and all(
            trial.told is not None for trial in self.trials
        )

    @property
    def confirmed_front(self) -> Mapping[str, Any] | None:
        """What ``front.json`` says, if the search has finished."""
        if not self.finished or not self.home.front_file.is_file():
            return None
        found: Mapping[str, Any] = json.loads(self.home.front_file.read_text(encoding="utf-8"))
        return found

    def best_recipe(self) -> str:
        """The best recipe's YAML: what the search ended with, or its best trial so far, as a line says.

        Raises:
            StudyError: if no trial has been asked all items yet.
            MergeryError: if the search's models or items are not there any more, while it has not ended.
        """
        if self.finished:
            return self.home.best.read_text(encoding="utf-8")
        best = self._preferred() if self.spec.search.objectives else best_trial(self.trials, self.direction)
        if best is None:
            raise StudyError(
                f"{self.home.out}: none of its {len(self.trials)} trials has been asked all items",
                fix="wait for the first",
            )
        from mergery.evolve.opening import Search

        done = sum(trial.told is not None for trial in self.trials)
        note = f"# trial {best.number}, {best.score:.4f}: the best of {done} so far, not confirmed\n"
        return note + Search.open(self.spec).candidate(best).recipe.to_yaml()

    def _preferred(self) -> Trial | None:
        from mergery.evolve.front import spread
        from mergery.evolve.objectives import preferences

        preference = preferences(self.spec.search, tuple(self.spec.tasks))
        return next(iter(spread(self.front, self.directions, 1, preference)), None)

    def by_task(self, trial: Trial) -> tuple[float | None, ...]:
        """A trial's score for each objective, if there are several; ``None`` for one that it has not."""
        whole = len(trial.values) == len(self.tasks)
        return trial.values if whole else (None,) * len(self.tasks)

    def row(self, trial: Trial) -> dict[str, object]:
        """A trial as plain data, with its parameters by name."""
        row: dict[str, object] = {
            "trial": trial.number,
            "origin": trial.origin,
            "state": state_of(trial),
            "score": trial.score,
        }
        scores = zip(self.tasks, self.by_task(trial), strict=True)
        return (
            row
            | {f"score.{task}": score for task, score in scores}
            | {
                "items": trial.items,
                "item_evaluations": trial.cost,
                "told": trial.told,
                "build_seconds": trial.build_seconds,
                "score_seconds": trial.score_seconds,
                "overhead_seconds": trial.overhead_seconds,
                "recipe": trial.recipe,
                "failure": trial.failure,
                "parameters": dict(zip(self.names, trial.genome or (), strict=False)),
            }
        )

    def export(self, file: Path) -> None:
        """Write all trials with their parameters as CSV or JSON, by the file's name.

        Raises:
            OutputError: if the name ends otherwise, or the file cannot be written.
        """
        if file.suffix not in _FORMATS:
            raise OutputError(
                f"{file}: neither .csv nor .json", fix="name the file trials.csv or trials.json"
            )
        rows = [self.row(trial) for trial in self.trials]
        text = json.dumps(rows, indent=2) + "\n" if file.suffix == ".json" else self._csv(rows)
        try:
            write_whole(file, text)
        except OSError as problem:
            raise OutputError(
                f"{file}: cannot be written: {problem.strerror}", fix="choose another place"
            ) from problem

    def _csv(self, rows: Sequence[dict[str, object]]) -> str:
        """One line a trial, one column a parameter."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        for number, row in enumerate(rows):
            parameters = row.pop("parameters")
            assert isinstance(parameters, dict)
            if not number:
                writer.writerow([*row, *self.names])
            writer.writerow([*row.values(), *(parameters.get(name) for name in self.names)])
        return text.getvalue()


def state_of(trial: Trial) -> str:
    """What became of a trial: ``whole``, ``given up``, ``gradient``, ``failed`` or ``running``."""
    if trial.told is None:
        return "running"
    if trial.score is None:
        return "failed"
    if trial.gradient is not None:
        return "gradient"
    return "whole" if trial.whole else "given up"
