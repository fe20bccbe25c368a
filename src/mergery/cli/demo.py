"""``mergery demo``: the whole path on tiny real experts, in minutes."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["demo"]


def demo(
    out: Annotated[Path, typer.Option(help="Directory for all that is made.")] = Path("demo"),
    zoo: Annotated[Path | None, typer.Option(help="A zoo of your own, made by `mergery zoo build`.")] = None,
    trials: Annotated[int | None, typer.Option(min=1, help="Recipes that the search tries.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the search.")] = 0,
    device: Annotated[str, typer.Option(help="Where to merge and score: cpu, cuda, ...")] = "cpu",
    json: Annotated[bool, typer.Option("--json", help="Print the table as JSON, and nothing else.")] = False,
) -> None:
    """Breed a model that can what none of its parents can."""
    from rich.console import Console
    from rich.table import Table

    from mergery.cli.watch import search_progress
    from mergery.demo import TRIALS, run_demo

    console = Console(stderr=json, highlight=False, soft_wrap=True)
    with search_progress(console) as watch:
        made = run_demo(
            out,
            zoo=zoo,
            trials=trials or TRIALS,
            seed=seed,
            device=device,
            stage=console.print,
            progress=watch,
        )
    if json:
        print(json_module.dumps(made.to_dict(), indent=2))
        return
    table = Table(
        "model", "kind", "right answers", "95 % interval", title="Word problems in J, held-out items"
    )
    for row in made.rows:
        span = row.interval
        style = "bold green" if row.kind == "evolved" else None
        spread = f"{100 * span.low:.1f} to {100 * span.high:.1f}"
        table.add_row(row.name, row.kind, f"{100 * span.estimate:.1f} %", spread, style=style)
    console.print(table)
    console.print("The best recipe:\n")
    console.print(made.evolved.best.to_yaml(), markup=False)
    for what, path in (
        ("the model", made.evolved.model),
        ("its recipe", made.evolved.recipe_file),
        ("the search", made.search_file),
        ("its picture", made.evolved.chart),
        ("its report", made.evolved.report_file),
        ("the table", made.table_file),
        ("the experts", made.zoo.directory),
    ):
        console.print(f"{what:12} {path}", markup=False)
