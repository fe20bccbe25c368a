"""What several verbs print in the same way."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from rich.console import Console

if TYPE_CHECKING:
    from mergery.engine.survival import Survival

__all__ = ["console", "load_without_bars", "print_risks", "print_survival", "size"]

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


def print_survival(whole: Survival) -> None:
    """What the cast left of the merge, and what to do where that is little."""
    if whole.dtype != "F32":
        console.print(
            f"{whole.survived:.1%} of the changed weights differ from the base in {whole.dtype}; "
            f"the change is {whole.relative_error:.1%} off",
            markup=False,
        )
    if whole.advice:
        print_risks([whole.advice])


def load_without_bars() -> None:
    """Load models without a bar for each, which would tear what we print."""
    from huggingface_hub.utils.tqdm import enable_progress_bars
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # type: ignore[no-untyped-call]
    enable_progress_bars()  # downloads keep theirs, which the line above takes away, too
