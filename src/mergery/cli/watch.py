"""What a search prints while it runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console

from mergery.cli.screen import load_without_bars

if TYPE_CHECKING:
    from mergery.evolve import Progress

__all__ = ["search_progress"]


@contextmanager
def search_progress(console: Console) -> Iterator[Callable[[Progress], None]]:
    """A line that moves on a terminal; elsewhere a line for every tenth of the trials."""
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bar

    load_without_bars()
    columns = (BarColumn(bar_width=20), TextColumn("{task.fields[line]}", markup=False))
    with Bar(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("searching", total=None, line="opening the models")
        tenth = 0

        def watch(progress: Progress) -> None:
            nonlocal tenth
            line = _line(progress)
            bar.update(task, total=1.0, completed=progress.share, line=line)
            if not console.is_terminal and int(10 * progress.share) > tenth:
                tenth = int(10 * progress.share)
                console.print(line, markup=False)

        yield watch


def _line(progress: Progress) -> str:
    best, left = progress.best, round(progress.seconds_left or 0)
    reached = "none yet" if best is None else f"{best:.4f}"
    trial = f"{progress.trial}/{progress.trials}" if progress.trials else f"{progress.trial}"
    return f"trial {trial}  best {reached}  {left // 60}:{left % 60:02d} left"
