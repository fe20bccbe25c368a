"""What a search found: the written model against its ingredients, on items the search never saw."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mergery.evaluate import Direction
from mergery.evaluate.intervals import Interval
from mergery.evolve.confirm import Confirmed
from mergery.evolve.exam import Exam
from mergery.evolve.home import write_whole
from mergery.evolve.sureness import score_difference, score_interval, task_difference
from mergery.evolve.trial import Trial

__all__ = ["Contestant", "Report"]


@dataclass(frozen=True, eq=False)
class Contestant:
    """One model on the items of the report.

    Attributes:
        name: the recipe's name for it; ``best`` for the merge.
        role: ``best``, ``base``, ``parent`` or ``plain`` (a merge without a search).
        validation: ``(n,)`` its outcomes on the items that the search saw, in their exam's order.
        test: ``(m,)`` its outcomes on those that it did not.
    """

    name: str
    role: str
    validation: NDArray[np.float32]
    test: NDArray[np.float32]

    @property
    def label(self) -> str:
        """A short name for pictures: ``parent japanese``."""
        return self.name if self.role == "plain" else f"{self.role} {Path(self.name).name}"


@dataclass(frozen=True, eq=False)
class Report:
    """A search's result in numbers.

    Attributes:
        best: the written model, loaded again with stock transformers.
        others: the base, the parents, and plain merges of them.
        searched: the best trial's score, as the search saw it.
        confirmed: what was left of it on items held back; ``None`` if none were.
        trials: all trials.
        exam: what the search asked.
        test: what judges.
        importance: of each dimension, as a share of one; empty where it cannot be said.
    """

    best: Contestant
    others: tuple[Contestant, ...]
    searched: float
    confirmed: Confirmed | None
    trials: tuple[Trial, ...]
    exam: Exam
    test: Exam
    importance: Mapping[str, float] = field(default_factory=dict)

    @property
    def claimed(self) -> float:
        """The score that the search promises: the confirmed one where there is one."""
        return self.searched if self.confirmed is None else self.confirmed.claim.estimate

    @property
    def metric(self) -> str:
        """What the score is."""
        return ", ".join(dict.fromkeys(section.evaluator.name for section in self.exam.sections))

    @property
    def verdict(self) -> str:
        """One sentence: by how much the best is better than the best of the others, or that it is not."""
        return _sentence(self.rival, self.difference(self.rival), self.test.direction)

    @property
    def verdicts(self) -> Mapping[str, str]:
        """The same sentence for each task alone, against the best of the others there."""
        found = {}
        for number, section in enumerate(self.test.sections):
            way = section.evaluator.direction
            better = max if way == "maximize" else min
            rival = better(self.others, key=lambda other: self.test.means(other.test)[number])
            gain = task_difference(self.test, number, self.best.test, rival.test)
            found[section.name] = _sentence(rival, gain, way)
        return found

    @property
    def rival(self) -> Contestant:
        """The best of the others on the test items."""
        return min(self.others, key=lambda other: self.test.losses(other.test).mean(dtype=np.float64))

    @property
    def gained(self) -> bool:
        """Whether the best is better than every other, by an interval that excludes none."""
        return _is_gain(self.difference(self.rival), self.test.direction)

    def interval(self, contestant: Contestant) -> Interval:
        """A contestant's score on the test items, with its 95 % interval."""
        return score_interval(self.test, contestant.test)

    def difference(self, other: Contestant) -> Interval:
        """The best's test score less another's, on the same items."""
        return score_difference(self.test, self.best.test, other.test)

    def to_dict(self) -> dict[str, object]:
        """Plain data for JSON."""
        claim: dict[str, object] = {"claimed_validation": self.searched}
        if self.confirmed is not None:
            claim["confirmed"] = _interval(self.confirmed.claim)
        claim["claimed_minus_test"] = self.claimed - self.test.score(self.best.test)
        return {
            "metric": self.metric,
            "direction": self.exam.direction,
            "verdict": self.verdict,
            **({"verdict_by_task": dict(self.verdicts)} if len(self.test.sections) > 1 else {}),
            "best": self._contestant(self.best) | claim,
            "others": [
                self._contestant(other) | {"best_minus_this_test": _interval(self.difference(other))}
                for other in self.others
            ],
            "items": {"validation": len(self.exam), "test": len(self.test)}
            | ({"confirm": len(self.confirmed.finalists[0].confirmed)} if self.confirmed else {}),
            "trials": len(self.trials),
            "failed_trials": sum(trial.score is None for trial in self.trials),
            "given_up_trials": sum(trial.score is not None and not trial.whole for trial in self.trials),
            "item_evaluations": {
                "searching": sum(trial.cost for trial in self.trials),
                "confirming": self.confirmed.cost if self.confirmed else 0,
            },
            "importance": dict(self.importance),
            "seconds": {
                "building": sum(trial.build_seconds for trial in self.trials),
                "scoring": sum(trial.score_seconds for trial in self.trials),
                "overhead": sum(trial.overhead_seconds for trial in self.trials),
            },
        }

    def save(self, path: Path) -> None:
        """Write the report as JSON."""
        write_whole(path, json.dumps(self.to_dict(), indent=2) + "\n")

    def _contestant(self, contestant: Contestant) -> dict[str, object]:
        data: dict[str, object] = {
            "name": contestant.name,
            "role": contestant.role,
            "validation": _interval(score_interval(self.exam, contestant.validation)),
            "test": _interval(score_interval(self.test, contestant.test)),
        }
        if len(self.test.sections) > 1:
            names = [section.name for section in self.test.sections]
            data["test_by_task"] = dict(zip(names, self.test.means(contestant.test), strict=True))
        return data


def _interval(interval: Interval) -> Mapping[str, float]:
    return {"score": interval.estimate, "low": interval.low, "high": interval.high}


def _sentence(rival: Contestant, gain: Interval, way: Direction) -> str:
    words = f"{_signed(gain.estimate)} [{_signed(gain.low)}, {_signed(gain.high)}]"
    who = f"{rival.role} {rival.name}" if rival.role != "plain" else rival.name
    if _is_gain(gain, way):
        return f"better than {who} by {words} on the test items (95 % interval)"
    return f"no gain over {who}: {words} on the test items (95 % interval)"


def _is_gain(gain: Interval, way: Direction) -> bool:
    """Whether a difference is one for the better, by an interval that excludes none."""
    return gain.low > 0 if way == "maximize" else gain.high < 0


def _signed(value: float) -> str:
    return f"{value:+.4f}"
