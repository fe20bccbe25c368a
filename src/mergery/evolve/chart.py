"""A picture of a search: every trial's score, the best so far, and what the ingredients score alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path

from mergery.evaluate import Direction
from mergery.evolve.trial import Trial

__all__ = ["draw"]


def draw(
    path: Path, trials: Sequence[Trial], *, direction: Direction, metric: str, references: Mapping[str, float]
) -> None:
    """Draw a search as PNG.

    Args:
        path: the file to write.
        trials: in order.
        direction: which way the score is better.
        metric: what the score is, for the axis.
        references: name to score of the base and the other ingredients.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    done = [(trial.number + 1, trial.score) for trial in trials if trial.score is not None]
    numbers = [number for number, _ in done]
    scores = [score for _, score in done]
    axes.scatter(numbers, scores, s=8, color="0.6", label="trial")
    better = max if direction == "maximize" else min
    best = list(accumulate(scores, better))
    axes.step(numbers, best, where="post", color="tab:red", label="best so far")
    for index, (name, score) in enumerate(references.items()):
        axes.axhline(score, color=f"C{index % 10}", linestyle="--", linewidth=1, label=name)
    axes.set_xlabel("trial")
    axes.set_ylabel(f"{metric} on the validation items")
    figure.legend(loc="outside lower center", ncols=3, fontsize="small", frameon=False)
    part = path.with_name(f".{path.stem}.partial.png")
    # no creation date and no version, so that equal searches give equal pictures
    figure.savefig(part, dpi=120, metadata={"Software": None})
    part.replace(path)
