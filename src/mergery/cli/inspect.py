"""``mergery inspect``: what a model directory holds; reads no weight."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["inspect"]


def inspect(
    model: Annotated[str, typer.Argument(help="A model directory, or a Hugging Face model id.")],
    tensors: Annotated[bool, typer.Option("--tensors", help="List every tensor.")] = False,
) -> None:
    """Show what a model directory holds; read no weight."""
    from rich.table import Table

    from mergery.checkpoint import ROLES, Checkpoint, ModelRef
    from mergery.cli.screen import console, size

    opened = Checkpoint.open(ModelRef.parse(model))
    infos = list(opened.tensors.values())
    layers = sorted({info.layer for info in infos if info.layer is not None})
    console.print(f"{opened.ref}: {opened.config.get('model_type', 'unknown')}", markup=False)
    console.print(
        f"{opened.parameters:,} parameters in {len(infos)} tensors, {len(layers)} layers, "
        f"{size(opened.bytes)} in {len(opened.files)} file(s)"
    )
    table = Table("role", "tensors", "parameters", "types", box=None)
    for role in ROLES:
        mine = [info for info in infos if info.role == role]
        if mine:
            types = ", ".join(sorted({info.dtype for info in mine}))
            table.add_row(role, str(len(mine)), f"{sum(info.elements for info in mine):,}", types)
    console.print(table)
    if tensors:
        listing = Table("tensor", "layer", "role", "type", "shape", box=None)
        for info in infos:
            layer = "" if info.layer is None else str(info.layer)
            listing.add_row(info.name, layer, info.role, info.dtype, str(list(info.shape)))
        console.print(listing)
