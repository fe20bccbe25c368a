"""Open parameters of a recipe, as its author wrote them.

A knob stands where a recipe has a parameter's value::

    weight: {search: [-0.5, 3.0], start: 0.8, by: block}

``search`` is the range; ``true``, or nothing, takes the range that the method declares. ``start`` is where
the search begins: by default the method's own default if the range holds it, else the middle. ``by`` says
how many numbers it is: ``model`` (one, the default), ``role``, ``layer`` or ``block``
(:data:`mergery.evolve.groups.Grouping`). A number per group becomes mergekit's list of ``{filter, value}``,
so whatever the search finds is an ordinary recipe.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from pydantic import Field

from mergery.errors import RecipeError
from mergery.evolve.groups import GROUPINGS, Grouping, Named, cover, group_names
from mergery.methods import MergeMethod, Parameter
from mergery.recipe.border import Document, checked, place

__all__ = ["Draft", "Knob", "Range", "grouped", "open_knobs", "resolve"]

_STEPS = 1_000_000
"""A genome's numbers are rounded to about this share of their range, so that recipes can be read."""

Path: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True)
class Range:
    """The values that a knob takes.

    Attributes:
        low: smallest value tried.
        high: largest value tried.
        start: where the search begins.
    """

    low: float
    high: float
    start: float

    def value(self, share: float) -> float:
        """The value at a share of the range, 0 to 1, rounded so that it can be read."""
        digits = max(0, math.ceil(-math.log10((self.high - self.low) / _STEPS)))
        value = round(self.low + share * (self.high - self.low), digits)
        return min(self.high, max(self.low, value))

    def share(self, value: float) -> float:
        """Where in the range a value lies, 0 to 1; values outside are taken to its end."""
        return min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))


@dataclass(frozen=True)
class Knob:
    """One open parameter of a recipe.

    Attributes:
        path: the keys and indices that lead to it in the recipe.
        ranges: for every method that the recipe may have; ``None`` for one without this parameter.
        by: how many numbers it is.
        groups: names of the groups of tensors that have a number each; empty for one number in all.
        filters: ``(filter, index of its group)``, in the order in which they are tried.
    """

    path: Path
    ranges: tuple[Range | None, ...]
    by: Grouping = "model"
    groups: tuple[str, ...] = ()
    filters: tuple[tuple[str, int], ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its numbers: ``models[0].weight`` or ``models[0].weight.layers.2.mlp``."""
        name = place("", tuple(part for part in self.path if part != "parameters"))
        return tuple(f"{name}.{group}" for group in self.groups) or (name,)

    @property
    def whole(self) -> Range:
        """The smallest range that holds those of all methods."""
        known = [span for span in self.ranges if span]
        return Range(min(span.low for span in known), max(span.high for span in known), known[0].start)

    def group_of(self, tensor: str) -> int:
        """Index of the number that a tensor is merged with."""
        return next((group for pattern, group in self.filters if pattern in tensor), 0)

    def setting(self, numbers: Sequence[float]) -> float | list[dict[str, object]]:
        """What the recipe says for these numbers."""
        if not self.groups:
            return numbers[0]
        return [{"filter": pattern, "value": numbers[group]} for pattern, group in self.filters]


class Draft(Document):
    """A knob as written."""

    search: bool | tuple[float, float] = True
    start: float | None = None
    by: Grouping = Field(default="model")


def open_knobs(recipe: Mapping[str, object], where: str) -> list[tuple[Path, Draft]]:
    """All knobs of a recipe, in its order.

    Raises:
        RecipeError: if one is not written as a knob.
    """
    return [(path, _read(data, place(where, path))) for path, data in _knobs(recipe, ())]


def resolve(path: Path, draft: Draft, methods: Sequence[MergeMethod], where: str) -> Knob:
    """A knob with its range for each of the methods that the recipe may have.

    Raises:
        RecipeError: if no method has such a parameter, one takes no real numbers, or the range is wrong.
    """
    spot, name = place(where, path), str(path[-1])
    able = [method for method in methods if name in method.parameters]
    if not able:
        for method in methods:
            if method.parameter(name, where=place(where, path[:-1])) is None:
                raise RecipeError(f"{spot}: it changes nothing in {method.name}", fix="remove it")
    for method in able:
        parameter = method.parameters[name]
        if parameter.kind is not float or parameter.interval is None:
            raise RecipeError(
                f"{spot}: {parameter.name} of {method.name} is a {parameter.kind.__name__}, and a search "
                "turns real numbers only",
                fix=f"write one value of {parameter.name}",
            )
    ranges = tuple(_range(draft, method.parameters.get(name), spot) for method in methods)
    return Knob(path, ranges, draft.by)


def grouped(knob: Knob, tensors: Sequence[Named]) -> Knob:
    """The knob with a number for each group of these tensors."""
    if knob.by == "model":
        return knob
    members = group_names(tensors, knob.by)
    groups = tuple(members)
    filters = tuple((pattern, groups.index(group)) for pattern, group in cover(members))
    return Knob(knob.path, knob.ranges, knob.by, groups, filters)


def _knobs(data: object, path: Path) -> Iterator[tuple[Path, Mapping[str, object]]]:
    """Every mapping that stands where a parameter's value is expected, but for mergekit's own form."""
    if isinstance(data, Mapping):
        for key, value in data.items():
            inside = (*path, key)
            if len(path) and path[-1] == "parameters" and isinstance(value, Mapping):
                if not {"filter", "value"} & value.keys():
                    yield inside, value
            else:
                yield from _knobs(value, inside)
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from _knobs(value, (*path, index))


def _read(data: Mapping[str, object], where: str) -> Draft:
    by = data.get("by", "model")
    if "by" in data and by not in GROUPINGS:
        raise RecipeError(f"{where}.by: unknown grouping {by!r}", fix=f"use one of: {', '.join(GROUPINGS)}")
    searched = data.get("search", True)
    if searched is not True and not (
        isinstance(searched, list)
        and len(searched) == 2
        and all(isinstance(end, int | float) and not isinstance(end, bool) for end in searched)
    ):
        raise RecipeError(
            f"{where}.search: expected [lowest, highest] or true, got {searched!r}",
            fix="write search: [0, 1]",
        )
    return checked(Draft, data, where=where)


def _range(draft: Draft, parameter: Parameter | None, spot: str) -> Range | None:
    if parameter is None:
        return None
    low, high = _ends(draft, parameter, spot)
    start = draft.start
    if start is None:
        default = parameter.default
        start = (low + high) / 2
        if isinstance(default, float | int) and low <= default <= high:
            start = float(default)
    elif not low <= start <= high:
        raise RecipeError(
            f"{spot}.start: {start:g} is outside [{low:g}, {high:g}]", fix="start inside the range"
        )
    return Range(low, high, start)


def _ends(draft: Draft, parameter: Parameter, spot: str) -> tuple[float, float]:
    interval = parameter.interval
    assert interval is not None
    if isinstance(draft.search, bool):
        return interval.search
    low, high = draft.search
    written = f"{spot}.search: [{low:g}, {high:g}]"
    if not (math.isfinite(low) and math.isfinite(high)):
        raise RecipeError(f"{written} is not finite", fix="write two numbers")
    if low > high:
        raise RecipeError(f"{written} is reversed", fix=f"write [{high:g}, {low:g}]")
    if low == high:
        raise RecipeError(f"{written} is empty", fix=f"widen the range, or write {low:g} in its place")
    if low not in interval or high not in interval:
        raise RecipeError(
            f"{written} reaches outside [{interval.low:g}, {interval.high:g}]",
            fix=f"choose a range of values that {parameter.name} can have",
        )
    return float(low), float(high)
