"""Values of parameters: a number, a gradient over layers, or a list by tensor name.

The grammar and its evaluation are mergekit 0.1's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from mergery.errors import RecipeError

__all__ = [
    "Filtered",
    "Gradient",
    "Number",
    "Setting",
    "evaluate",
    "numbers",
    "parse_setting",
    "setting_data",
]

Number: TypeAlias = float | bool
Gradient: TypeAlias = tuple[float, ...]


@dataclass(frozen=True)
class Filtered:
    """One entry of a list by tensor name.

    Attributes:
        filter: a part of the tensor's name; ``*`` (or nothing, in YAML) fits all.
        value: for the tensors that it fits.
    """

    filter: str
    value: Number | Gradient

    def fits(self, name: str) -> bool:
        """Whether the tensor ``name`` is meant."""
        return self.filter == "*" or self.filter in name


Setting: TypeAlias = Number | Gradient | tuple[Filtered, ...]


def parse_setting(data: object, *, where: str) -> Setting:
    """Read a value as YAML gave it.

    Raises:
        RecipeError: if it is none of the three forms.
    """
    if isinstance(data, Mapping):
        data = [data]
    if not isinstance(data, Sequence) or isinstance(data, str):
        return _number(data, where)
    if not data:
        raise RecipeError(f"{where}: an empty list", fix="write a number or a list of numbers")
    if all(isinstance(entry, Mapping) for entry in data):
        return tuple(_filtered(entry, f"{where}[{index}]") for index, entry in enumerate(data))
    return _gradient(data, where)


def evaluate(setting: Setting, name: str, position: float) -> Number | None:
    """The value for one tensor.

    Args:
        setting: the parsed value.
        name: the tensor's name, for filters.
        position: where its layer stands in the output slice, 0 to 1, for gradients.

    Returns:
        The number, or ``None`` if no filter fits.
    """
    if not isinstance(setting, tuple):
        return setting
    if isinstance(setting[0], Filtered):
        for entry in setting:
            if isinstance(entry, Filtered) and entry.fits(name):
                return evaluate(entry.value, name, position)
        return None
    values = [float(value) for value in setting if not isinstance(value, Filtered)]
    spot = position * (len(values) - 1)
    left = int(spot)
    right = min(len(values) - 1, left + 1)
    return values[left] * (1.0 - (spot - left)) + values[right] * (spot - left)


def numbers(setting: Setting) -> tuple[Number, ...]:
    """Every number that the setting holds."""
    if not isinstance(setting, tuple):
        return (setting,)
    return tuple(
        number
        for entry in setting
        for number in (numbers(entry.value) if isinstance(entry, Filtered) else (entry,))
    )


def setting_data(setting: Setting) -> object:
    """The setting as plain data for YAML."""
    if not isinstance(setting, tuple):
        return setting
    return [
        {"filter": entry.filter, "value": setting_data(entry.value)} if isinstance(entry, Filtered) else entry
        for entry in setting
    ]


def _filtered(entry: Mapping[str, object], where: str) -> Filtered:
    for key in entry:
        if key not in ("filter", "value"):
            raise RecipeError(f"{where}.{key}: unknown key", fix="use filter and value")
    if "value" not in entry:
        raise RecipeError(f"{where}: no value", fix="add value:")
    pattern = "*" if entry.get("filter") is None else entry["filter"]
    if not isinstance(pattern, str):
        raise RecipeError(f"{where}.filter: expected a part of tensor names, got {pattern!r}", fix="quote it")
    value = entry["value"]
    if isinstance(value, Sequence) and not isinstance(value, str):
        return Filtered(pattern, _gradient(value, f"{where}.value"))
    return Filtered(pattern, _number(value, f"{where}.value"))


def _gradient(data: Sequence[object], where: str) -> Gradient:
    if not data:
        raise RecipeError(f"{where}: an empty list", fix="write a number or a list of numbers")
    return tuple(float(_number(entry, f"{where}[{index}]")) for index, entry in enumerate(data))


def _number(data: object, where: str) -> Number:
    if isinstance(data, bool):
        return data
    if isinstance(data, int | float | str):
        try:
            return float(data)
        except ValueError:
            pass
    raise RecipeError(f"{where}: expected a number, got {data!r}", fix="write a number or a list of numbers")
