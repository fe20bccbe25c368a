"""``mergery methods``: what there is, and what each takes."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["methods"]


def methods(
    name: Annotated[str | None, typer.Argument(help="Show one method whole.")] = None,
) -> None:
    """List the merge methods, or show one whole."""
    from rich.table import Table

    from mergery.cli.screen import console
    from mergery.methods import get_method, method_names

    if name is None:
        table = Table("method", "what it does", "parameters", box=None)
        for known in method_names():
            method = get_method(known)
            table.add_row(known, method.summary, ", ".join(method.parameters))
        console.print(table)
        return
    method = get_method(name, where="mergery methods")
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
