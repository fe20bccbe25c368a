"""``mergery check``: every mistake of recipe files, before any download."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["check"]


def check(
    recipes: Annotated[list[Path], typer.Argument(help="Recipes: YAML files, as for mergekit.")],
) -> None:
    """Say everything that is wrong with recipes; download nothing, read no weight."""
    from mergery.cli.screen import console, print_risks, size
    from mergery.engine.diagnosis import diagnose

    wrong = False
    for path in recipes:
        found = diagnose(path)
        count = len(found.mistakes)
        wrong |= count > 0
        said = f"{count} mistake{'s' * (count > 1)}" if count else "no mistake found"
        console.print(f"{path}: {said}", markup=False)
        for mistake in found.mistakes:
            console.print(str(mistake), markup=False)
        if found.remote:
            models = ", ".join(map(str, found.remote))
            console.print(f"not looked at before any download: {models}", markup=False)
        if found.plan:
            tensors = f"{len(found.plan.jobs)} tensors, {size(found.plan.bytes_written)}"
            console.print(f"{found.plan.method.name} gives {tensors}", markup=False)
        print_risks(found.warnings)
    if wrong:
        raise typer.Exit(2)
