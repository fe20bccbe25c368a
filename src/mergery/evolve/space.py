"""A recipe with open knobs, and the points in it.

A knob stands where a recipe has a parameter's value::

    weight: {search: [-0.5, 3.0], start: 0.8, by: block}

``search`` is the range; ``true``, or nothing, takes the range that the method declares. ``start`` is where
the search begins: by default the method's own default if the range holds it, else the middle. ``by`` says
how many numbers it is: ``model`` (one, the default), ``role``, ``layer`` or ``block``
(:data:`mergery.evolve.groups.Grouping`). A number per group becomes mergekit's list of ``{filter, value}``,
so whatever the search finds is an ordinary recipe.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, cast

from pydantic import Field

from mergery.checkpoint import Checkpoint, ModelRef
from mergery.errors import RecipeError
from mergery.evolve.algorithms.api import Point
from mergery.evolve.groups import GROUPINGS, Grouping, Named, cover, group_names
from mergery.methods import MergeMethod, Parameter, get_method
from mergery.recipe import Recipe
from mergery.recipe.border import Document, checked, place

__all__ = ["Genome", "Knob", "SearchSpace"]

Genome: TypeAlias = tuple[float, ...]
"""A point in the space: one number for every dimension, in the parameters' own units."""

_STEPS = 1_000_000
"""A genome's numbers are rounded to about this share of their range, so that recipes can be read."""

_Path: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True)
class Knob:
    """One open parameter of a recipe.

    Attributes:
        path: the keys and indices that lead to it in the recipe.
        low: smallest value tried.
        high: largest value tried.
        start: where the search begins.
        groups: names of the groups of tensors that have a number each; empty for one number in all.
        filters: ``(filter, index of its group)``, in the order in which they are tried.
    """

    path: _Path
    low: float
    high: float
    start: float
    groups: tuple[str, ...] = ()
    filters: tuple[tuple[str, int], ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its numbers: ``models[0].weight`` or ``models[0].weight.layers.2.mlp``."""
        name = place("", tuple(part for part in self.path if part != "parameters"))
        return tuple(f"{name}.{group}" for group in self.groups) or (name,)

    def setting(self, numbers: Sequence[float]) -> float | list[dict[str, object]]:
        """What the recipe says for these numbers."""
        if not self.groups:
            return numbers[0]
        return [{"filter": pattern, "value": numbers[group]} for pattern, group in self.filters]

    def value(self, share: float) -> float:
        """The value at a share of the range, 0 to 1, rounded so that it can be read."""
        digits = max(0, math.ceil(-math.log10((self.high - self.low) / _STEPS)))
        value = round(self.low + share * (self.high - self.low), digits)
        return min(self.high, max(self.low, value))


@dataclass(frozen=True)
class SearchSpace:
    """A recipe with open knobs.

    Attributes:
        skeleton: the recipe as plain data; what stands at the knobs' places does not matter.
        knobs: in the recipe's order.
    """

    skeleton: Mapping[str, object]
    knobs: tuple[Knob, ...]

    @classmethod
    def open(cls, recipe: Mapping[str, object], *, where: str = "recipe") -> SearchSpace:
        """Read a recipe with knobs. Opens headers only, and those only if a knob goes by groups.

        Args:
            recipe: plain data in the recipe's grammar.
            where: put before the path in errors.

        Raises:
            RecipeError: if a knob or the recipe is wrong, or there is no knob.
            CheckpointError: if a model cannot be opened.
        """
        found = list(_knobs(recipe, ()))
        drafts = [(path, _read(data, place(where, path))) for path, data in found]
        if not drafts:
            raise RecipeError(
                f"{where}: no open parameter", fix="write weight: {search: [0, 1]} where a value stands"
            )
        name = recipe.get("merge_method")
        if not isinstance(name, str):
            Recipe.from_dict(recipe, where=where)
            raise RecipeError(f"{where}.merge_method: not a name", fix="write merge_method: task_arithmetic")
        method = get_method(name, where=place(where, ("merge_method",)))
        knobs = [_resolve(path, draft, method, where) for path, draft in drafts]
        # the whole recipe is checked before any header is read
        space = cls(recipe, tuple(knobs))
        checked_recipe = space.recipe(space.decode(space.start), where=where)
        if any(draft.by != "model" for _, draft in drafts):
            if recipe.get("slices") is not None:
                path = next(path for path, draft in drafts if draft.by != "model")
                raise RecipeError(
                    f"{place(where, path)}.by: a recipe of slices has knobs by model only",
                    fix="remove by:, or write models: in place of slices:",
                )
            tensors = _tensors(checked_recipe)
            knobs = [
                _grouped(knob, tensors, draft.by) for knob, (_, draft) in zip(knobs, drafts, strict=True)
            ]
        return cls(recipe, tuple(knobs))

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the dimensions."""
        return tuple(name for knob in self.knobs for name in knob.names)

    @property
    def bounds(self) -> tuple[tuple[float, float], ...]:
        """Range of each dimension."""
        return tuple((knob.low, knob.high) for knob in self.knobs for _ in knob.names)

    @property
    def start(self) -> Point:
        """Where the search begins, in the unit cube."""
        return tuple(
            (knob.start - knob.low) / (knob.high - knob.low) for knob in self.knobs for _ in knob.names
        )

    def decode(self, point: Point) -> Genome:
        """The genome at a point of the unit cube."""
        shares = iter(point)
        return tuple(knob.value(next(shares)) for knob in self.knobs for _ in knob.names)

    def recipe(self, genome: Genome, *, where: str = "recipe") -> Recipe:
        """The ordinary recipe that a genome stands for.

        Raises:
            RecipeError: if the method does not take these values together.
        """
        if len(genome) != len(self.names):
            raise ValueError(f"{len(genome)} numbers for {len(self.names)} dimensions")
        data = cast(dict[str, Any], copy.deepcopy(dict(self.skeleton)))
        numbers = iter(genome)
        for knob in self.knobs:
            target: Any = data
            for part in knob.path[:-1]:
                target = target[part]
            target[knob.path[-1]] = knob.setting([next(numbers) for _ in knob.names])
        return Recipe.from_dict(data, where=where)


class _Knob(Document):
    search: bool | tuple[float, float] = True
    start: float | None = None
    by: Grouping = Field(default="model")


def _knobs(data: object, path: _Path) -> Iterator[tuple[_Path, Mapping[str, object]]]:
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


def _read(data: Mapping[str, object], where: str) -> _Knob:
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
    return checked(_Knob, data, where=where)


def _resolve(path: _Path, draft: _Knob, method: MergeMethod, where: str) -> Knob:
    spot = place(where, path)
    parameter = method.parameter(str(path[-1]), where=place(where, path[:-1]))
    if parameter is None:
        raise RecipeError(f"{spot}: it changes nothing in {method.name}", fix="remove it")
    if parameter.kind is not float or parameter.interval is None:
        raise RecipeError(
            f"{spot}: {parameter.name} of {method.name} is a {parameter.kind.__name__}, and a search turns "
            "real numbers only",
            fix=f"write one value of {parameter.name}",
        )
    low, high = _range(draft, parameter, spot)
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
    return Knob(path, low, high, start)


def _range(draft: _Knob, parameter: Parameter, spot: str) -> tuple[float, float]:
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


def _tensors(recipe: Recipe) -> tuple[Named, ...]:
    """The tensors whose names filters see: those of the base, or of the first model."""
    base = recipe.base_model
    reference = base if isinstance(base, ModelRef) else recipe.models[0]
    return tuple(Checkpoint.open(reference).tensors.values())


def _grouped(knob: Knob, tensors: Sequence[Named], by: Grouping) -> Knob:
    if by == "model":
        return knob
    members = group_names(tensors, by)
    groups = tuple(members)
    filters = tuple((pattern, groups.index(group)) for pattern, group in cover(members))
    return Knob(knob.path, knob.low, knob.high, knob.start, groups, filters)
