"""``mergery plan``: what a merge will read, write and need; reads no weight."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["plan"]


def plan(
    recipe: Annotated[Path, typer.Argument(help="The recipe: a YAML file, as for mergekit.")],
    threads: Annotated[
        int | None, typer.Option(min=1, help="Tensors merged at a time; by default one more than processors.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say what a merge will read, write and need, and what is risky; read headers and a sample of weights."""
    from mergery.cli.screen import console, print_risks, size
    from mergery.engine import make_plan
    from mergery.engine.balance import balance_risks
    from mergery.engine.estimate import expected_seconds
    from mergery.engine.machine import merging_threads
    from mergery.recipe import Recipe

    asked = Recipe.load(recipe)
    made = make_plan(asked)
    threads = threads or merging_threads()
    seconds = expected_seconds(made)
    risks = [*asked.notes, *made.risks, *balance_risks(made)]
    facts = {
        "method": made.method.name,
        "models": [str(ref) for ref in made.models],
        "tensors": len(made.jobs),
        "layers": dict(made.depths),
        "types": made.types,
        "bytes_read": made.bytes_read,
        "bytes_written": made.bytes_written,
        "peak_memory": made.peak_memory(threads),
        "threads": threads,
        "seconds": seconds,
        "risks": risks,
    }
    if json:
        print(json_module.dumps(facts, indent=2))
        return
    console.print(f"{made.method.name}: {made.method.summary}", markup=False)
    for ref, checkpoint in made.models.items():
        console.print(
            f"  {ref}  {checkpoint.parameters:,} parameters, {size(checkpoint.bytes)}", markup=False
        )
    layers = ", ".join(f"{count} in {stack.rstrip('.')}" for stack, count in made.depths.items())
    console.print(f"layers  {layers or 'none'}", markup=False)
    console.print(f"reads   {size(made.bytes_read)}")
    written = f"{size(made.bytes_written)} in {len(made.jobs)} tensors, {' and '.join(made.types)}"
    console.print(f"writes  {written}")
    console.print(
        f"memory  {size(made.peak_memory(threads))} at most with {threads} thread(s), beside the program"
    )
    console.print(f"time    {seconds:.{0 if seconds >= 10 else 1}f} s if the disk is what it waits for")
    print_risks(risks)
