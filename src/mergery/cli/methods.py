"""``mergery methods``: what there is, and what each takes."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["app"]

app = typer.Typer()


@app.callback(invoke_without_command=True)
def methods(context: typer.Context) -> None:
    """List the merge methods; `show` one whole."""
    from rich.table import Table

    from mergery.cli.screen import console
    from mergery.methods import get_method, method_names

    if context.invoked_subcommand:
        return
    table = Table("method", "what it does", "parameters", box=None)
    for name in method_names():
        method = get_method(name)
        table.add_row(name, method.summary, ", ".join(method.parameters))
    console.print(table)


@app.command()
def show(name: Annotated[str, typer.Argument(help="A method's name.")]) -> None:
    """Show one method: what it does, its paper, its departures, its parameters."""
    from rich.table import Table

    from mergery.cli.screen import console
    from mergery.methods import get_method

    method = get_method(name, where="mergery methods show")
    console.print(f"{method.name} ({method.paper})\n\n{method.documentation}\n", markup=False)
    table = Table("parameter", "for", "kind", "range", "default", box=None)
    for parameter in method.parameters.values():
        interval = parameter.interval
        table.add_row(
            parameter.name,
            "each model" if parameter.per_model else "the merge",
            parameter.kind.__name__,
            f"{interval.low:g} to {interval.high:g}" if interval else "",
            "required" if parameter.default is None else str(parameter.default),
        )
    console.print(table)
