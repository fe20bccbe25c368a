"""``mergery evolve``: a search file in, the best recipe and its model out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mergery.evolve import Evolved

__all__ = ["evolve"]


def evolve(
    search: Annotated[Path, typer.Argument(help="The search: a YAML file with recipe, search and task.")],
    out: Annotated[Path, typer.Argument(help="The directory to write; or one whose search to continue.")],
    device: Annotated[str, typer.Option(help="Where to merge and score: cpu, cuda, ...")] = "cpu",
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Candidates at a time, each in a process; the file's if not given."),
    ] = None,
    launcher: Annotated[
        str | None, typer.Option(help="processes of this machine, or ray; the file's if not given.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Try a few candidates, say what the search will cost, and stop.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Search for the merging recipe that scores best.

    Run again after an interruption, it continues.
    """
    from mergery.cli.screen import console
    from mergery.cli.watch import search_progress
    from mergery.evolve import evolve as run

    if dry_run:
        from mergery.cli.forecasts import print_forecasts

        print_forecasts(search, out, device=device, workers=workers, launcher=launcher)
        return
    if quiet:
        run(search, out, device=device, workers=workers, launcher=launcher)
        return
    with search_progress(console) as watch:
        evolved = run(search, out, device=device, workers=workers, launcher=launcher, progress=watch)
    for text in _summary(evolved):
        console.print(text, markup=False)


def _summary(evolved: Evolved) -> list[str]:
    """The result on items never seen, beside the ingredients."""
    report = evolved.report
    lines = [f"{report.metric} on {len(report.test)} test items, 95 % interval:"]
    for contestant in (report.best, *report.others):
        interval = report.interval(contestant)
        name = contestant.role if contestant.role == "best" else f"{contestant.role} {contestant.name}"
        lines.append(f"  {interval.estimate:.4f} [{interval.low:.4f}, {interval.high:.4f}]  {name}")
    lines.append(f"claimed by the search, on its validation items: {report.searched:.4f}")
    if report.confirmed is not None:
        claim = report.confirmed.claim
        lines.append(f"on items held back: {claim.estimate:.4f} [{claim.low:.4f}, {claim.high:.4f}]")
    return [
        *lines,
        report.verdict,
        f"recipe {evolved.recipe_file}",
        f"model {evolved.model}",
        f"report {evolved.report_file}",
    ]
