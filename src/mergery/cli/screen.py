"""What several verbs print in the same way."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console

__all__ = ["console", "print_risks", "size"]

console = Console(highlight=False, soft_wrap=True)


def size(count: float) -> str:
    """A number of bytes for people: ``1.5 GB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.4g} {unit}"
        count /= 1000
    return f"{count:.4g} TB"


def print_risks(risks: Iterable[str]) -> None:
    """One line a risk."""
    for risk in risks:
        console.print("[yellow]warning:[/] ", end="")
        console.print(risk, markup=False)
