"""``mergery study``: look at a search, also while it runs."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["app"]

app = typer.Typer(help="Look at a search, also while it runs.", no_args_is_help=True)

Out = Annotated[Path, typer.Argument(help="A directory that mergery evolve writes.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def show(
    out: Out,
    by_number: Annotated[bool, typer.Option("--by-number", help="In the order of asking.")] = False,
    json: Json = False,
) -> None:
    """List the trials, the best first."""
    from mergery.cli.tables import print_trials
    from mergery.evolve.reading import StudyReading

    study = StudyReading.open(out)
    trials = study.trials if by_number else study.ranked
    if json:
        print(json_module.dumps([study.row(trial) for trial in trials], indent=2))
    else:
        print_trials(study, trials)


@app.command()
def best(out: Out) -> None:
    """Print the best recipe: the confirmed one, or the best so far."""
    from mergery.evolve.reading import StudyReading

    print(StudyReading.open(out).best_recipe(), end="")


@app.command()
def pareto(out: Out, json: Json = False) -> None:
    """List the trials that no other beats in every objective."""
    from mergery.cli.tables import print_front, print_trials
    from mergery.evolve.reading import StudyReading

    study = StudyReading.open(out)
    front, confirmed = study.front, study.confirmed_front
    if json:
        print(json_module.dumps(confirmed or [study.row(trial) for trial in front], indent=2))
    elif confirmed:
        print_front(confirmed)
    else:
        print_trials(study, front)


@app.command()
def export(
    out: Out, file: Annotated[Path, typer.Argument(help="The file to write: trials.csv or trials.json.")]
) -> None:
    """Write all trials with their parameters to a file."""
    from mergery.cli.screen import console
    from mergery.evolve.reading import StudyReading

    study = StudyReading.open(out)
    study.export(file)
    console.print(f"{len(study.trials)} trials in {file}", markup=False)
