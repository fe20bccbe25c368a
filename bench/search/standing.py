"""What many bouts say together: means over seeds with intervals, and what is claimed of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

import numpy as np
from scipy.stats import t as student

from bench.records import Records
from bench.search.arena import Bout

PAPER, OURS = "paper", "default"


@dataclass(frozen=True)
class Mean:
    """A mean over seeds, in points, with its 95 % interval (Student's t)."""

    value: float
    half: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Mean:
        points = 100 * np.array(values, dtype=np.float64)
        if len(points) < 2:
            return cls(float(points.mean()), float("nan"), len(points))
        error = points.std(ddof=1) / np.sqrt(len(points))
        return cls(float(points.mean()), float(student.ppf(0.975, len(points) - 1) * error), len(points))

    def __str__(self) -> str:
        return f"{self.value:.1f}" + (f" ± {self.half:.1f}" if self.count > 1 else "")


class Standing:
    """Bouts, looked at together.

    Args:
        bouts: of any suites, entries, seeds and budgets; a repeated one counts once.
    """

    def __init__(self, bouts: Iterable[Bout]) -> None:
        self._bouts = {(b.suite, b.entry, b.seed, b.budget, b.items): b for b in bouts}

    @classmethod
    def of(cls, records: Records) -> Standing:
        """All bouts on record."""
        names = [entry.name for entry in fields(Bout)]
        return cls(Bout(**{name: row[name] for name in names}) for row in records.of())  # type: ignore[arg-type]

    def bouts(self, suite: str, entry: str, budget: int, items: int = 400) -> list[Bout]:
        """One a seed, in their order."""
        asked = (suite, entry, budget, items)
        found = (b for b in self._bouts.values() if (b.suite, b.entry, b.budget, b.items) == asked)
        return sorted(found, key=lambda bout: bout.seed)

    def mean(self, suite: str, entry: str, budget: int, items: int = 400) -> Mean | None:
        """Score on the sealed items."""
        tests = [bout.test for bout in self.bouts(suite, entry, budget, items)]
        return Mean.of(tests) if tests else None

    def gain(self, suites: Sequence[str], entry: str, other: str, budget: int) -> Mean | None:
        """By how much one entry is better than another, on the mean of the suites; paired by seed."""
        differences = []
        for suite in suites:
            ours = {bout.seed: bout.test for bout in self.bouts(suite, entry, budget)}
            theirs = {bout.seed: bout.test for bout in self.bouts(suite, other, budget)}
            differences.append({seed: ours[seed] - theirs[seed] for seed in ours.keys() & theirs.keys()})
        seeds = sorted(set.intersection(*(set(found) for found in differences)))
        return Mean.of([np.mean([found[seed] for found in differences]) for seed in seeds]) if seeds else None

    def enough(self, suite: str, budgets: Sequence[int], goal: float) -> int | None:
        """The smallest budget at which the default's mean is that many points."""
        for budget in sorted(budgets):
            mean = self.mean(suite, OURS, budget)
            if mean is not None and mean.value >= goal:
                return budget
        return None

    def honesty(self, suites: Sequence[str], entry: str, budget: int) -> tuple[Mean, float | None, int]:
        """Claimed less true score; the share of intervals that hold the true one; and of how many runs."""
        bouts = [bout for suite in suites for bout in self.bouts(suite, entry, budget)]
        held = [
            bout.low <= bout.test <= bout.high
            for bout in bouts
            if bout.low is not None and bout.high is not None
        ]
        share = sum(held) / len(held) if held else None
        return Mean.of([bout.claimed - bout.test for bout in bouts]), share, len(bouts)
