"""``mergery merge``: a recipe in, a model directory out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["merge"]


def merge(
    recipe: Annotated[Path, typer.Argument(help="The recipe: a YAML file, as for mergekit.")],
    out: Annotated[Path, typer.Argument(help="The directory to write; it must not exist, or be empty.")],
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, help="Tensors merged at a time: by default one more than processors; with ray, 1 a task."
        ),
    ] = None,
    shard_size: Annotated[float, typer.Option(min=0.001, help="Size of a weight file, in GB.")] = 5.0,
    device: Annotated[str, typer.Option(help="Where to compute: cpu, cuda, cuda:1, ...")] = "cpu",
    executor: Annotated[
        str,
        typer.Option(help="threads, processes or ray; auto is a process for each GPU, and threads without."),
    ] = "auto",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Merge models into a Hugging Face model directory."""
    from mergery.engine import merge as run

    with _progress(hidden=quiet) as progress:
        merged = run(
            recipe,
            out,
            threads=threads,
            shard_bytes=int(shard_size * 1e9),
            device=device,
            executor=executor,
            progress=progress,
        )
    if quiet:
        return
    from mergery.cli.screen import console, print_risks, print_survival, size

    print_risks(merged.risks)
    if merged.survived:
        print_survival(merged.survived)
    console.print(f"wrote {size(merged.bytes)} in {len(merged.files)} file(s) to {out}", markup=False)


@contextmanager
def _progress(*, hidden: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A bar that goes away at the end, on a terminal; it is told the bytes written, and of how many."""
    if hidden:
        yield None
        return
    from mergery.cli.screen import console

    if not console.is_terminal:
        yield None
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TimeRemainingColumn

    columns = ("merging", BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("merging", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
