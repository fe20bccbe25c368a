"""A front on disk: each member's recipe, what all of them score on all items, and a picture."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mergery.evaluate.intervals import Interval
from mergery.evolve.chart import blank, save
from mergery.evolve.exam import Exam
from mergery.evolve.front import Entrant, Front
from mergery.evolve.home import Home, write_whole
from mergery.evolve.report import Contestant
from mergery.evolve.sureness import task_intervals
from mergery.evolve.trial import Trial

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["FrontReport"]


@dataclass(frozen=True, eq=False)
class FrontReport:
    """A search's front in numbers.

    Attributes:
        front: its members.
        tests: ``(m,)`` each member's outcomes on the test items.
        exam: what the search asked.
        confirm: what finalists were asked; ``None`` if nothing was held back.
        test: what judges.
        preference: how much each task matters, as the search file says; ``None`` if it does not.
    """

    front: Front
    tests: tuple[NDArray[np.float32], ...]
    exam: Exam
    confirm: Exam | None
    test: Exam
    preference: Mapping[str, float] | None

    def to_dict(self) -> dict[str, object]:
        """Plain data for JSON."""
        sections = self.exam.sections
        return {
            "tasks": {section.name: section.evaluator.name for section in sections},
            "directions": {section.name: section.evaluator.direction for section in sections},
            "preference": None if self.preference is None else dict(self.preference),
            "members": [
                {
                    "recipe": f"front/{name}",
                    "trial": member.trial.number,
                    "picked": place == self.front.picked,
                    "scores": self._scores(member, tested),
                }
                for place, (name, member, tested) in enumerate(
                    zip(self._names(), self.front.members, self._tested, strict=True)
                )
            ],
            "claims_of_the_picked": {
                section.name: _plain(claim)
                for section, claim in zip(sections, self.front.claims, strict=False)
            },
            "beaten_when_confirmed": [entrant.trial.number for entrant in self.front.left],
        }

    def save(self, home: Home) -> None:
        """Write the members' recipes and the numbers; recipes of members that are none any more go."""
        home.front.mkdir(exist_ok=True)
        names = tuple(self._names())
        for name, member in zip(names, self.front.members, strict=True):
            write_whole(home.front / name, member.candidate.recipe.to_yaml())
        for file in sorted(home.front.glob("*.yml")):
            if file.name not in names:
                file.unlink()
        write_whole(home.front_file, json.dumps(self.to_dict(), indent=2) + "\n")

    def draw(self, path: Path, trials: Sequence[Trial], others: Sequence[Contestant]) -> None:
        """Draw the front on the test items: each task against the next one.

        Args:
            path: the file to write.
            trials: all trials.
            others: what the front is compared with.
        """
        count = len(self.test.sections)
        pairs = [(place, (place + 1) % count) for place in range(count if count > 2 else 1)]
        figure = blank(width=max(6.5, 5.0 * len(pairs)), height=6.0)
        tried = [trial.values for trial in trials if trial.whole and trial.gradient is None]
        marks = [
            *(
                _Mark(other.label, f"C{place % 10}", "s", 9, task_intervals(self.test, other.test))
                for place, other in enumerate(others)
            ),
            *(
                _Mark("picked", "tab:red", "*", 13, scores)
                if place == self.front.picked
                else _Mark("front", "black", "o", 5, scores)
                for place, scores in enumerate(self._tested)
            ),
        ]
        for column, (first, second) in enumerate(pairs):
            axes = figure.add_subplot(1, len(pairs), column + 1)
            where = [values[first] for values in tried], [values[second] for values in tried]
            axes.scatter(*where, s=8, color="0.8", label="trial (validation items)")
            for mark in marks:
                mark.draw(axes, first, second)
            names = [f"{part.name}: {part.evaluator.name} on the test items" for part in self.test.sections]
            axes.set_xlabel(names[first])
            axes.set_ylabel(names[second])
        known = dict(zip(*reversed(figure.axes[0].get_legend_handles_labels()), strict=True))
        figure.legend(
            known.values(), known.keys(), loc="outside lower center", ncols=3, fontsize="small", frameon=False
        )
        save(figure, path)

    @cached_property
    def _tested(self) -> tuple[tuple[Interval, ...], ...]:
        """Each member's test scores by task."""
        return tuple(task_intervals(self.test, outcomes) for outcomes in self.tests)

    def _names(self) -> Iterator[str]:
        width = max(2, len(str(len(self.front.members))))
        for place in range(len(self.front.members)):
            yield f"{place + 1:0{width}d}.yml"

    def _scores(self, member: Entrant, tested: tuple[Interval, ...]) -> dict[str, object]:
        """By task and items."""
        known = {"validation": task_intervals(self.exam, member.searched)}
        if self.confirm is not None and member.confirmed is not None:
            first = len(self.confirm) - len(member.confirmed)
            known["confirm"] = task_intervals(self.confirm, member.confirmed, first)
        known["test"] = tested
        return {
            section.name: {items: _plain(scores[number]) for items, scores in known.items()}
            for number, section in enumerate(self.exam.sections)
        }


@dataclass(frozen=True)
class _Mark:
    """A model in the picture: both its intervals cross at its scores."""

    label: str
    color: str
    shape: str
    size: float
    scores: tuple[Interval, ...]

    def draw(self, axes: Axes, first: int, second: int) -> None:
        """Draw it where two tasks' scores are."""
        x, y = self.scores[first], self.scores[second]
        axes.errorbar(
            [x.estimate],
            [y.estimate],
            xerr=_reach(x),
            yerr=_reach(y),
            fmt=self.shape,
            markersize=self.size,
            fillstyle="none" if self.shape == "s" else "full",
            color=self.color,
            elinewidth=0.8,
            zorder=3 if self.shape == "*" else 2,
            label=self.label,
        )


def _reach(interval: Interval) -> list[list[float]]:
    """How far an interval reaches to both sides."""
    below, above = interval.estimate - interval.low, interval.high - interval.estimate
    return [[max(0.0, below)], [max(0.0, above)]]


def _plain(interval: Interval) -> dict[str, float]:
    return {"score": interval.estimate, "low": interval.low, "high": interval.high}
