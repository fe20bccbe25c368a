"""``mergery evolve``: a search file in, the best recipe and its model out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from mergery.evolve import Evolved, Progress

__all__ = ["evolve", "search_progress"]


def evolve(
    search: Annotated[Path, typer.Argument(help="The search: a YAML file with recipe, search and task.")],
    out: Annotated[Path, typer.Argument(help="The directory to write; or one whose search to continue.")],
    device: Annotated[str, typer.Option(help="Where to merge and score: cpu, cuda, ...")] = "cpu",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Search for the merging recipe that scores best. Run again after an interruption, it continues."""
    from mergery.cli.screen import console
    from mergery.evolve import evolve as run

    if quiet:
        run(search, out, device=device)
        return
    with search_progress(console) as watch:
        evolved = run(search, out, device=device, progress=watch)
    for text in _summary(evolved):
        console.print(text, markup=False)


@contextmanager
def search_progress(console: Console) -> Iterator[Callable[[Progress], None]]:
    """A line that moves on a terminal; elsewhere a line for every tenth of the trials."""
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (BarColumn(bar_width=20), TextColumn("{task.fields[line]}", markup=False))
    with Bar(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("searching", total=None, line="opening the models")

        def watch(progress: Progress) -> None:
            line = _line(progress)
            bar.update(task, total=progress.trials, completed=progress.trial, line=line)
            tenths = 10 * progress.trial // progress.trials
            if not console.is_terminal and tenths > 10 * (progress.trial - 1) // progress.trials:
                console.print(line, markup=False)

        yield watch


def _line(progress: Progress) -> str:
    best = "none yet" if progress.best is None else f"{progress.best:.4f}"
    minutes, seconds = divmod(round(progress.seconds_left or 0), 60)
    return f"trial {progress.trial}/{progress.trials}  best {best}  {minutes}:{seconds:02d} left"


def _summary(evolved: Evolved) -> list[str]:
    """The result on items never seen, beside the ingredients."""
    report = evolved.report
    lines = [f"{report.evaluator.name} on {len(report.best.test.hashes)} test items, 95 % interval:"]
    for contestant in (report.best, *report.others):
        interval = report.interval(contestant.test)
        name = contestant.role if contestant.role == "best" else f"{contestant.role} {contestant.name}"
        lines.append(f"  {interval.estimate:.4f} [{interval.low:.4f}, {interval.high:.4f}]  {name}")
    lines.append(f"claimed by the search, on its validation items: {report.claimed:.4f}")
    return [
        *lines,
        f"recipe {evolved.recipe_file}",
        f"model {evolved.model}",
        f"report {evolved.report_file}",
    ]
