"""Values of parameters: a number or a word, a gradient over layers, or a list by tensor name.

The grammar and its evaluation are mergekit 0.1's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from mergery.errors import RecipeError
from mergery.recipe.mistakes import Mistakes, shown

__all__ = [
    "Check",
    "Filtered",
    "Gradient",
    "Scalar",
    "Setting",
    "evaluate",
    "parse_setting",
    "read_setting",
    "setting_data",
]

Scalar: TypeAlias = float | bool | str
Gradient: TypeAlias = tuple[float, ...]


@dataclass(frozen=True)
class Filtered:
    """One entry of a list by tensor name.

    Attributes:
        filter: a part of the tensor's name; ``*`` (or nothing, in YAML) fits all.
        value: for the tensors that it fits.
    """

    filter: str
    value: Scalar | Gradient

    def fits(self, name: str) -> bool:
        """Whether the tensor ``name`` is meant."""
        return self.filter == "*" or self.filter in name


Setting: TypeAlias = Scalar | Gradient | tuple[Filtered, ...]

Check: TypeAlias = Callable[[Scalar, str], Scalar]
"""A value and its place in; the value in its parameter's kind out, or a :class:`RecipeError`."""

_A_SETTING = "write a number, a list of numbers, or a list of {filter, value}"


def parse_setting(data: object, *, where: str) -> Setting:
    """Read a value as YAML gave it.

    Raises:
        RecipeError: if it is none of the forms.
    """
    mistakes = Mistakes()
    setting = read_setting(data, where, mistakes)
    mistakes.raise_all()
    assert setting is not None
    return setting


def read_setting(data: object, where: str, mistakes: Mistakes, check: Check | None = None) -> Setting | None:
    """Read a value as YAML gave it, every number of it checked.

    Args:
        data: the value.
        where: its place, for error texts.
        mistakes: takes what is wrong.
        check: what its parameter admits.

    Returns:
        The setting; ``None`` if something was wrong with it.
    """
    before = len(mistakes.found)
    reader = _SettingReader(mistakes, check or (lambda value, _: value))
    setting = reader.setting(data, where)
    return setting if len(mistakes.found) == before else None


def evaluate(setting: Setting, name: str, position: float) -> Scalar | None:
    """The value for one tensor.

    Args:
        setting: the parsed value.
        name: the tensor's name, for filters.
        position: where its layer stands in the output slice, 0 to 1, for gradients.

    Returns:
        The number or word, or ``None`` if no filter fits.
    """
    if not isinstance(setting, tuple):
        return setting
    if isinstance(setting[0], Filtered):
        for entry in setting:
            if isinstance(entry, Filtered) and entry.fits(name):
                return evaluate(entry.value, name, position)
        return None
    values = [value for value in setting if not isinstance(value, Filtered)]
    spot = position * (len(values) - 1)
    left = int(spot)
    right = min(len(values) - 1, left + 1)
    return values[left] * (1.0 - (spot - left)) + values[right] * (spot - left)


def setting_data(setting: Setting) -> object:
    """The setting as plain data for YAML."""
    if not isinstance(setting, tuple):
        return setting
    return [
        {"filter": entry.filter, "value": setting_data(entry.value)} if isinstance(entry, Filtered) else entry
        for entry in setting
    ]


@dataclass(frozen=True)
class _SettingReader:
    mistakes: Mistakes
    check: Check

    def setting(self, data: object, where: str) -> Setting | None:
        if isinstance(data, Mapping):
            entry = self._filtered(data, where)
            return (entry,) if entry else None
        if not isinstance(data, Sequence) or isinstance(data, str):
            return self.mistakes.attempt(self._scalar, data, where)
        mappings = [isinstance(entry, Mapping) for entry in data]
        if any(mappings) and not all(mappings):
            self.mistakes.add(f"{where}: numbers and filters in one list", fix=_A_SETTING)
            return None
        if not any(mappings):
            return self._gradient(data, where)
        entries = [self._filtered(entry, f"{where}[{index}]") for index, entry in enumerate(data)]
        return tuple(entry for entry in entries if entry)

    def _filtered(self, data: object, where: str) -> Filtered | None:
        fields = self.mistakes.mapping(data, where, ("value", "filter"), required=("value",))
        pattern, value = fields.get("filter", "*"), fields.get("value")
        if not isinstance(pattern, str):
            self.mistakes.add(
                f"{where}.filter: expected a part of tensor names, got {shown(pattern)}", fix="quote it"
            )
            return None
        if pattern != "*" and "*" in pattern:
            self.mistakes.note(
                f"{where}.filter: {pattern!r} is looked for letter by letter, so its * fits no tensor; only "
                "a * alone stands for all"
            )
        if value is None:
            return None
        if isinstance(value, Sequence) and not isinstance(value, str):
            return Filtered(pattern, self._gradient(value, f"{where}.value"))
        number = self.mistakes.attempt(self._scalar, value, f"{where}.value")
        return None if number is None else Filtered(pattern, number)

    def _gradient(self, data: Sequence[object], where: str) -> Gradient:
        if not data:
            self.mistakes.add(f"{where}: an empty list", fix=_A_SETTING)
        numbers = [
            self.mistakes.attempt(self._number, entry, f"{where}[{index}]")
            for index, entry in enumerate(data)
        ]
        return tuple(number for number in numbers if number is not None)

    def _number(self, data: object, where: str) -> float:
        """One number of a gradient: words cannot be mixed."""
        number = _plain(data, where)
        if isinstance(number, str):
            raise RecipeError(f"{where}: expected a number, got {number!r}", fix="write a number")
        self.check(number, where)
        return float(number)

    def _scalar(self, data: object, where: str) -> Scalar:
        return self.check(_plain(data, where), where)


def _plain(data: object, where: str) -> Scalar:
    """A switch or a number, also as a text (``"0.5"``); any other text is a word."""
    if isinstance(data, bool):
        return data
    if isinstance(data, int | float | str):
        try:
            return float(data) + 0.0  # + 0.0: there is one zero
        except OverflowError:
            pass
        except ValueError:
            return str(data)
    raise RecipeError(f"{where}: expected a number, got {shown(data)}", fix=_A_SETTING)
