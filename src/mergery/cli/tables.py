"""Tables of trials and of fronts, one line each, however narrow the terminal is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mergery.evolve import Trial
    from mergery.evolve.reading import StudyReading

__all__ = ["print_front", "print_trials"]

_SHOWN = 4
"""Numbers of a genome that a line has room for."""


def print_trials(study: StudyReading, trials: Sequence[Trial]) -> None:
    """One line a trial."""
    from mergery.evolve.reading import state_of

    lines = [["trial", "score", *study.tasks, "state", "items", "origin", "genome"]]
    for trial in trials:
        numbers = [_number(score) for score in (trial.score, *study.by_task(trial))]
        rest = [state_of(trial), str(trial.items or ""), trial.origin, _short(trial.genome)]
        lines.append([str(trial.number), *numbers, *rest])
    _print_aligned(lines)


def print_front(front: Mapping[str, Any]) -> None:
    """One line a member, one column a task; scores on the test items."""
    lines = [["", "recipe", "trial", *front["tasks"]]]
    for member in front["members"]:
        scores = [_interval(scores["test"]) for scores in member["scores"].values()]
        lines.append(["*" if member["picked"] else "", member["recipe"], str(member["trial"]), *scores])
    _print_aligned(lines)
    print("on the test items, with 95 % intervals; * was picked")


def _print_aligned(lines: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _number(score: float | None) -> str:
    return "" if score is None else f"{score:.4f}"


def _interval(scores: Mapping[str, float]) -> str:
    return f"{scores['score']:.4f} [{scores['low']:.4f}, {scores['high']:.4f}]"


def _short(genome: Sequence[float | str] | None) -> str:
    if genome is None:
        return ""
    shown = [value if isinstance(value, str) else f"{value:.3g}" for value in genome[:_SHOWN]]
    more = len(genome) - _SHOWN
    return " ".join(shown) + (f" +{more}" if more > 0 else "")
