"""A picture of a search: every trial's score, the best so far, and what the ingredients score alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from mergery.evaluate import Direction
from mergery.evolve.trial import Trial

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["blank", "draw", "save", "search_figure"]


def blank(width: float, height: float) -> Figure:
    """A figure to draw in, in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, never half of it."""
    part = path.with_name(f".{path.stem}.partial.png")
    # no creation date and no version, so that equal searches give equal pictures
    figure.savefig(part, dpi=120, metadata={"Software": None})
    part.replace(path)


def draw(
    path: Path, trials: Sequence[Trial], *, direction: Direction, metric: str, references: Mapping[str, float]
) -> None:
    """Draw a search as PNG; see :func:`search_figure`.

    Args:
        path: the file to write.
        trials: in order.
        direction: which way the score is better.
        metric: what the score is, for the axis.
        references: name to score of the base and the other ingredients.
    """
    save(search_figure(trials, direction=direction, metric=metric, references=references), path)


def search_figure(
    trials: Sequence[Trial], *, direction: Direction, metric: str, references: Mapping[str, float]
) -> Figure:
    """A picture of a search.

    Args:
        trials: in order.
        direction: which way the score is better.
        metric: what the score is, for the axis.
        references: name to score of the base and the other ingredients.
    """
    figure = blank(8, 5)
    axes = figure.add_subplot()
    asked = [trial for trial in trials if trial.score is not None and trial.gradient is None]
    whole = [trial for trial in asked if trial.whole]
    for some, color, label in (
        ([trial for trial in asked if not trial.whole], "0.8", "given up (estimate)"),
        (whole, "0.5", "trial"),
    ):
        if some:
            axes.scatter(
                [trial.number + 1 for trial in some],
                [trial.score or 0.0 for trial in some],
                s=8,
                color=color,
                label=label,
            )
    scores = [trial.score for trial in whole if trial.score is not None]
    best = list(accumulate(scores, max if direction == "maximize" else min))
    axes.step([trial.number + 1 for trial in whole], best, where="post", color="tab:red", label="best so far")
    for index, (name, score) in enumerate(references.items()):
        axes.axhline(score, color=f"C{index % 10}", linestyle="--", linewidth=1, label=name)
    axes.set_xlabel("trial")
    axes.set_ylabel(f"{metric} on the validation items")
    figure.legend(loc="outside lower center", ncols=3, fontsize="small", frameon=False)
    return figure
