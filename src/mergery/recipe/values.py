"""Readers of single values, as YAML gives them: each returns the value or raises with place and fix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mergery.errors import RecipeError, near_miss
from mergery.recipe.mistakes import shown

__all__ = ["choice", "dtype", "layer_range", "switch", "text", "whole"]

_DTYPES = ("float32", "float16", "bfloat16")


def text(data: object, where: str) -> str:
    """A text that is not empty."""
    if isinstance(data, str) and data:
        return data
    raise RecipeError(
        f"{where}: expected a text, got {shown(data)}", fix="write a text, in quotes if need be"
    )


def whole(data: object, where: str, *, low: int | None = None) -> int:
    """A whole number, also as a text (``"8"``), not below ``low``."""
    number = data
    if isinstance(data, float | str):
        try:
            number = int(float(data))
        except (ValueError, OverflowError):
            number = None
        if number is not None and number != float(data):
            number = None
    if isinstance(number, int) and not isinstance(number, bool) and (low is None or number >= low):
        return number
    wanted = "a whole number" if low is None else f"a whole number, {low} or more"
    raise RecipeError(f"{where}: expected {wanted}, got {shown(data)}", fix=f"write {wanted}")


def switch(data: object, where: str) -> bool:
    """``true`` or ``false``."""
    if isinstance(data, bool):
        return data
    raise RecipeError(f"{where}: expected true or false, got {shown(data)}", fix="write true or false")


def choice(data: object, where: str, names: Sequence[str], *, kind: str) -> str:
    """One of several names; ``kind`` is what they are names of."""
    if isinstance(data, str) and data in names:
        return data
    raise RecipeError(f"{where}: unknown {kind} {shown(data)}", fix=near_miss(str(data), names))


def dtype(data: object, where: str) -> str:
    """A type of tensors, with or without ``torch.`` before it."""
    name = data.removeprefix("torch.") if isinstance(data, str) else data
    return choice(name, where, _DTYPES, kind="dtype")


def layer_range(data: object, where: str) -> tuple[int, int]:
    """``[first, last + 1]``."""
    wanted = "[first, last + 1] with 0 <= first <= last"
    if not isinstance(data, Sequence | Mapping) or isinstance(data, str | Mapping) or len(data) != 2:
        raise RecipeError(f"{where}: expected {wanted}, got {shown(data)}", fix="write two whole numbers")
    start, end = (whole(entry, f"{where}[{index}]") for index, entry in enumerate(data))
    if not 0 <= start < end:
        raise RecipeError(
            f"{where}: expected {wanted}, got [{start}, {end}]",
            fix="count the layers from 0, the end excluded",
        )
    return start, end
