"""``mergery zoo``: tiny real experts, trained here."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["app"]

app = typer.Typer(help="Tiny real experts to merge, trained by Mergery itself.", no_args_is_help=True)


class Size(StrEnum):
    """Sizes of zoo."""

    s = "s"
    m = "m"
    l = "l"  # noqa: E741


@app.callback()
def _zoo() -> None:
    """Tiny real experts to merge, trained by Mergery itself."""


@app.command()
def build(
    directory: Annotated[Path, typer.Argument(help="The directory to write; it must be new, or empty.")],
    seed: Annotated[int, typer.Option(min=0, help="Decides everything that is random.")] = 0,
    size: Annotated[Size, typer.Option(help="Width and depth of the models.")] = Size.s,
) -> None:
    """Train a zoo: a base, experts of a language and of a skill, and a jointly trained control."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Table

    from mergery.cli.screen import console
    from mergery.zoo import build as run

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("zoo", total=1.0)
        made = run(
            directory,
            seed=seed,
            size=size.value,
            progress=lambda stage, share: bar.update(task, description=stage, completed=share),
        )
    table = Table("model", "kind", "what it is", box=None)
    for member in made.members:
        table.add_row(member.name, member.kind, member.description)
    console.print(table)
    console.print(f"wrote {len(made.members)} models to {directory}", markup=False)


@app.command()
def ready(
    directory: Annotated[Path, typer.Argument(help="The directory to write; it must be new, or empty.")],
) -> None:
    """Unpack the ready-made zoo of the demo, in a second."""
    from mergery.cli.screen import console
    from mergery.zoo import ready_made

    made = ready_made(directory)
    for member in made.members:
        console.print(f"{member.path}  {member.description}", markup=False)
