"""One line for each target: what the figures say of it."""

from __future__ import annotations

from collections.abc import Sequence
from operator import ge

from bench.paths.gain import ALONE, STEPS
from bench.records import Record, Records
from bench.search.standing import Mean

NOTHING = 1.0
"""Points above the donor that are no find."""


def numbers(rows: Sequence[Record], field: str) -> list[float]:
    """One figure of all rows."""
    return [float(str(row[field])) for row in rows]


def gain_of(rows: Sequence[Record], others: Sequence[Record]) -> Mean | None:
    """By how much tests are better than others, paired by seed."""
    ours, theirs = ({row["seed"]: float(str(row["test"])) for row in some} for some in (rows, others))
    both = [ours[seed] - theirs[seed] for seed in ours if seed in theirs]
    return Mean.of(both) if both else None


def of_gains(records: Records, suites: Sequence[str], total: int, first: int) -> str:
    """On how many suites a path pays at the same budget, and how far a single step leads."""
    said = []
    for entry in dict.fromkeys(str(row["entry"]) for row in records.of(budget=total)):
        if entry != ALONE:
            gains = [gain_of(*_pair(records, suite, entry, total)) for suite in suites]
            found = [gain for gain in gains if gain is not None]
            above = sum(gain.value - gain.half > 0 for gain in found)
            said.append(f"by {entry} on {above} of {len(found)} suites")
    begun = {suite: records.of(suite=suite, entry=ALONE, budget=first) for suite in suites}
    steps = [gain_of(records.of(suite=suite, entry=STEPS), rows) for suite, rows in begun.items()]
    most = max((step.value for step in steps if step is not None), default=None)
    reason = (
        ""
        if most is None
        else f" The best single step from the merged models adds {most:.1f} points at most."
    )
    return f"**Gain with its interval above 0: {', '.join(said) or 'not measured'}.**{reason}"


def _pair(records: Records, suite: str, entry: str, budget: int) -> tuple[list[Record], list[Record]]:
    return (
        records.of(suite=suite, entry=entry, budget=budget),
        records.of(suite=suite, entry=ALONE, budget=budget),
    )


def of_planted(records: Records, entries: Sequence[str], candidates: int) -> str:
    """How many were recovered."""
    found = {entry: records.of(entry=entry, candidates=candidates) for entry in entries}
    said = [
        f"{sum(row['needed'] is not None for row in rows)} of {len(rows)} by {entry}"
        for entry, rows in found.items()
    ]
    return f"**Recovered: {', '.join(said)}.**"


def of_encodings(records: Records, entries: Sequence[str], paper: str, candidates: int, fifth: int) -> str:
    """On how many problems the aligned encoding has the paper's quality after a fifth of the candidates."""
    names = dict.fromkeys(str(row["riddle"]) for row in records.of(entry=paper, candidates=candidates))

    def means(entry: str, count: int, field: str = "test") -> list[float]:
        found = [records.of(riddle=name, entry=entry, candidates=count) for name in names]
        return [Mean.of(numbers(rows, field)).value if rows else 0.0 for rows in found]

    goals, said = means(paper, candidates), []
    nothing = [broken + NOTHING for broken in means(paper, candidates, "broken")]
    for entry in entries:
        early = means(entry, fifth)
        reached = sum(map(ge, early, map(max, goals, nothing)))
        said.append(f"by {entry} on {reached} of {len(goals)} problems, {_average(early)} in the mean of all")
    return f"**At least the paper's {_average(goals)}: {'; '.join(said)}.**"


def _average(values: Sequence[float]) -> str:
    return f"{sum(values) / max(1, len(values)):.1f}"


def of_written(records: Records, sixteen: str) -> str:
    """The largest difference in float32, and how many first choices differ."""
    rows = [row for row in records.of() if row["kind"] != sixteen]
    if not rows:
        return "**Not measured.**"
    tokens, same = (sum(numbers(rows, name)) for name in ("tokens", "searched_same"))
    return (
        f"**In float32 {max(numbers(rows, 'searched')):.0e} at most; {tokens - same:.0f} of {tokens:,.0f} "
        "first choices differ; all load with stock transformers.**"
    )


def of_sharing(records: Records) -> str:
    """The smallest saving of the local searches, and whether all was identical."""
    shares, same = [], True
    for models in dict.fromkeys(str(row["models"]) for row in records.of()):
        rows = records.of(models=models)
        done, without = (sum(numbers(rows, name)) for name in ("done", "without"))
        shares.append(1 - done / without)
        same = same and all(row["passes"] == row["identical"] for row in rows)
    least = f"{min(shares):.0%}" if shares else "–"
    return f"**At least {least} fewer; outputs {'bit-identical' if same else 'not identical'}.**"
