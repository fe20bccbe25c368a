"""The command line: one file a verb, each a parse, one library call and a print.

Nothing here imports torch before a verb needs it: ``mergery --help`` answers at once.
"""

from __future__ import annotations

import atexit
import gc
import sys
from typing import Annotated

import typer

from mergery.cli import check, demo, evolve, inspect, merge, methods, plan, soup, study, zoo
from mergery.errors import MergeryError

__all__ = ["app", "main"]

app = typer.Typer(
    name="mergery",
    help="Breed a better language model out of existing ones, without training.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("merge")(merge.merge)
app.command("check")(check.check)
app.command("plan")(plan.plan)
app.command("soup")(soup.soup)
app.command("evolve")(evolve.evolve)
app.add_typer(study.app, name="study")
app.command("demo")(demo.demo)
app.add_typer(methods.app, name="methods")
app.command("inspect")(inspect.inspect)
app.add_typer(zoo.app, name="zoo")


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"mergery {version('mergery')}")
        raise typer.Exit


@app.callback()
def _options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Say which this is.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line: exit code 2 for a mistake of the user's, 1 for a defect of ours."""
    # Looking for cycles among the modules that a verb loads takes a fifth of a second, and finds none.
    gc.set_threshold(100_000, 50, 100)
    atexit.register(gc.freeze)
    try:
        app()
    except MergeryError as problem:
        print(problem, file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
