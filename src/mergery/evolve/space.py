"""A space of recipes: a recipe with open knobs, and the points in it.

The merge method may be open, too: ``merge_method: {search: [task_arithmetic, ties, dare_ties]}``. Each
method takes the knobs that it has a parameter for, in its own range; the others do not stand in its recipe.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, cast

from mergery.checkpoint import Checkpoint, ModelRef
from mergery.errors import RecipeError
from mergery.evolve.algorithms.api import Point, Problem
from mergery.evolve.candidate import Candidate
from mergery.evolve.groups import Named, coarser, depth_of
from mergery.evolve.knobs import Knob, Path, Range, grouped, open_knobs, resolve
from mergery.methods import MergeMethod, get_method
from mergery.recipe import Recipe
from mergery.recipe.border import place

__all__ = ["Domain", "Genome", "SearchSpace", "Space"]

Genome: TypeAlias = tuple[float | str, ...]
"""A point in the space: one value for every dimension, in the parameters' own units."""

Domain: TypeAlias = "tuple[float, float] | tuple[str, ...]"
"""The ends of a real dimension's range, or the values of one of choices."""

_METHOD = ("merge_method",)


class Space(Protocol):
    """Where a search looks: weight space (:class:`SearchSpace`), path space, or both."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the dimensions."""
        ...

    @property
    def domains(self) -> tuple[Domain, ...]:
        """What each dimension's values are."""
        ...

    @property
    def problem(self) -> Problem:
        """What algorithms know of it."""
        ...

    @property
    def starts(self) -> tuple[Recipe, ...]:
        """Recipes that name every model of which candidates are made; the search begins with the first."""
        ...

    @property
    def identity(self) -> object:
        """Plain data that says which space it is."""
        ...

    def decode(self, point: Point) -> Genome:
        """The genome at a point of the unit cube."""
        ...

    def candidate(self, genome: Genome) -> Candidate:
        """What a genome stands for.

        Raises:
            RecipeError: if its values cannot stand together.
        """
        ...


@dataclass(frozen=True)
class SearchSpace:
    """A recipe with open knobs.

    Attributes:
        skeleton: the recipe as plain data; what stands at the knobs' places does not matter.
        knobs: in the recipe's order.
        methods: names of the methods to choose from; one if the recipe says which.
        layers: how many layers the models have, where a knob goes by them.
    """

    skeleton: Mapping[str, object]
    knobs: tuple[Knob, ...]
    methods: tuple[str, ...]
    layers: int = 0

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
        drafts = open_knobs(recipe, where)
        methods = _methods(recipe, where)
        if not drafts and len(methods) == 1:
            raise RecipeError(
                f"{where}: no open parameter", fix="write weight: {search: [0, 1]} where a value stands"
            )
        knobs = tuple(resolve(path, draft, methods, where) for path, draft in drafts)
        if len(methods) > 1:
            _check_names(recipe, methods, where)
        # the whole recipe is checked, with every method, before any header is read
        space = cls(recipe, knobs, tuple(method.name for method in methods))
        starts = [space.recipe(space.decode(space.start_of(method)), where=where) for method in space.methods]
        finer = next((path for path, draft in drafts if draft.by != "model"), None)
        if finer is None:
            return space
        if recipe.get("slices") is not None:
            raise RecipeError(
                f"{place(where, finer)}.by: a recipe of slices has knobs by model only",
                fix="remove by:, or write models: in place of slices:",
            )
        tensors = _tensors(starts[0])
        layers = 1 + max((tensor.layer for tensor in tensors if tensor.layer is not None), default=-1)
        return cls(recipe, tuple(grouped(knob, tensors) for knob in knobs), space.methods, layers)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the dimensions; the method's first, if it is open."""
        method = _METHOD if len(self.methods) > 1 else ()
        return (*method, *(name for knob in self.knobs for name in knob.names))

    @property
    def domains(self) -> tuple[Domain, ...]:
        """Range of each dimension; the methods' names for the first, if it is open."""
        method = (self.methods,) if len(self.methods) > 1 else ()
        return (*method, *((knob.whole.low, knob.whole.high) for knob in self.knobs for _ in knob.names))

    @property
    def starts(self) -> tuple[Recipe, ...]:
        """The recipe with which the search begins, for each method."""
        return tuple(self.recipe(self.decode(self.start_of(method))) for method in self.methods)

    @property
    def start(self) -> Point:
        """Where the search begins, in the unit cube."""
        return self.start_of(self.methods[0])

    def start_of(self, method: str) -> Point:
        """Where it begins with one method."""
        place = self.methods.index(method)
        spans = [knob.ranges[place] or knob.whole for knob in self.knobs for _ in knob.names]
        return (*self._choice(place), *(span.share(span.start) for span in spans))

    @property
    def problem(self) -> Problem:
        """What algorithms know of the space."""
        choices = (len(self.methods),) if len(self.methods) > 1 else ()
        return Problem(
            start=self.start,
            choices=(*choices, *(0 for knob in self.knobs for _ in knob.names)),
            levels=self._levels(),
            depths=(
                *(0.5 for _ in choices),
                *(depth_of(group, self.layers) for knob in self.knobs for group in knob.groups or ("model",)),
            ),
            known=tuple(self._known()),
        )

    @property
    def identity(self) -> object:
        """Plain data that says which space it is."""
        return [
            self.skeleton,
            self.methods,
            [
                (
                    knob.path,
                    [span and (span.low, span.high, span.start) for span in knob.ranges],
                    knob.filters,
                )
                for knob in self.knobs
            ],
        ]

    def decode(self, point: Point) -> Genome:
        """The genome at a point of the unit cube."""
        shares = iter(point)
        method = min(len(self.methods) - 1, int(len(self.methods) * next(shares))) if self._open else 0
        head = (self.methods[method],) if self._open else ()
        spans = [knob.ranges[method] or knob.whole for knob in self.knobs for _ in knob.names]
        return (*head, *(span.value(next(shares)) for span in spans))

    def candidate(self, genome: Genome) -> Candidate:
        """The recipe that a genome stands for, to be merged."""
        return Candidate(self.recipe(genome))

    def recipe(self, genome: Genome, *, where: str = "recipe") -> Recipe:
        """The ordinary recipe that a genome stands for.

        Raises:
            RecipeError: if the method does not take these values together.
        """
        if len(genome) != len(self.names):
            raise ValueError(f"{len(genome)} values for {len(self.names)} dimensions")
        data = _apart(self.skeleton)
        numbers = iter(genome)
        method = self.methods.index(str(next(numbers))) if self._open else 0
        if self._open:
            _fit(data, get_method(self.methods[method]))
        for knob in self.knobs:
            target: Any = data
            for part in knob.path[:-1]:
                target = target[part]
            values = [float(next(numbers)) for _ in knob.names]
            if knob.ranges[method] is not None:
                target[knob.path[-1]] = knob.setting(values)
        return Recipe.from_dict(data, where=where)

    def active(self, genome: Genome) -> Iterator[tuple[Knob, Range | None]]:
        """The knobs with their ranges in a genome's method; ``None`` for one that it does not take."""
        method = self.methods.index(str(genome[0])) if self._open else 0
        for knob in self.knobs:
            yield knob, knob.ranges[method]

    @property
    def _open(self) -> bool:
        return len(self.methods) > 1

    def _choice(self, method: int) -> Point:
        return ((method + 0.5) / len(self.methods),) if self._open else ()

    def _levels(self) -> tuple[tuple[int, ...], ...]:
        """One number a knob; then one a role or a third of the layers; then all."""
        levels: list[tuple[int, ...]] = []
        for level in range(3):
            labels: list[str] = ["method"] if self._open else []
            for number, knob in enumerate(self.knobs):
                groups = knob.groups or ("model",)
                labels += [f"{number} {coarser(group, knob.by, level, self.layers)}" for group in groups]
            order = {label: rank for rank, label in enumerate(dict.fromkeys(labels))}
            level_groups = tuple(order[label] for label in labels)
            if level_groups not in levels:
                levels.append(level_groups)
        return tuple(levels) if len(levels) > 1 else ()

    def _known(self) -> Iterator[tuple[str, Point]]:
        """Plain merges here: averages and sums, each model alone, each method's average and start."""
        weights = [knob.path for knob in self.knobs if _is_weight(knob.path)]
        experts: dict[Path, object] = {}
        for index, entry in enumerate(
            cast(Sequence[Mapping[str, object]], self.skeleton.get("models") or ())
        ):
            path: Path = ("models", index, "parameters", "weight")
            if path in weights or entry["model"] != self.skeleton.get("base_model"):
                experts[path] = entry["model"]
        # a model of fixed weight would be part of every one of these merges
        plain = len(experts) > 1 and all(path in weights for path in experts)
        able = [method for method in self.methods if plain and self._takes(method, weights)]
        merges = [(able[0], *merge) for merge in (*_shares(experts), *_alone(experts))] if able else []
        merges += [(method, *next(_shares(experts))) for method in able[1:]]
        seen: list[Point | None] = [None]
        for method, name, values in merges:
            point = self._weighted(method, values)
            if point is not None and point not in seen:
                seen.append(point)
                yield f"{name}, {method}" if self._open else name, point
        for method in self.methods if self._open else ():
            if self.start_of(method) not in seen:
                yield f"{method} as it is", self.start_of(method)

    def _takes(self, method: str, weights: Sequence[Path]) -> bool:
        """Whether a method takes all these weights."""
        place = self.methods.index(method)
        return all(knob.ranges[place] for knob in self.knobs if knob.path in weights)

    def _weighted(self, method: str, weights: Mapping[Path, float]) -> Point | None:
        """A method's start with these weights; ``None`` if a range has no room."""
        place = self.methods.index(method)
        point = list(self._choice(place))
        for knob in self.knobs:
            span = knob.ranges[place] or knob.whole
            value = weights.get(knob.path, span.start)
            if not span.low <= value <= span.high:
                return None
            point += [span.share(value)] * len(knob.names)
        return tuple(point)


def _shares(experts: Mapping[Path, object]) -> Iterator[tuple[str, dict[Path, float]]]:
    """Merges of all models with one weight; the average first, the most neutral one."""
    shares = {"uniform": 1 / len(experts), "half": 0.5, "sum": 1.0, "sum of two": 2 / len(experts)}
    yield from ((name, dict.fromkeys(experts, share)) for name, share in shares.items())


def _alone(experts: Mapping[Path, object]) -> Iterator[tuple[str, dict[Path, float]]]:
    """Each model with weight one, and the others with none."""
    for path, model in experts.items():
        name = model if isinstance(model, str) else place("", path[:2])
        yield f"{name} alone", dict.fromkeys(experts, 0.0) | {path: 1.0}


def _apart(data: Any) -> Any:
    """A copy in which no two places share an object.

    What is written once for two models, as a YAML anchor or a variable in Python, still has a value for each.
    """
    if isinstance(data, Mapping):
        return {key: _apart(value) for key, value in data.items()}
    return [_apart(value) for value in data] if isinstance(data, list | tuple) else data


def _methods(recipe: Mapping[str, object], where: str) -> tuple[MergeMethod, ...]:
    """The methods to choose from."""
    written, spot = recipe.get("merge_method"), place(where, _METHOD)
    if isinstance(written, str):
        return (get_method(written, where=spot),)
    names = written.get("search") if isinstance(written, Mapping) and len(written) == 1 else None
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        if written is None:
            Recipe.from_dict(recipe, where=where)
        raise RecipeError(
            f"{spot}: not a method's name, nor a choice of several",
            fix="write merge_method: ties, or merge_method: {search: [ties, dare_ties]}",
        )
    if len(dict.fromkeys(names)) < max(2, len(names)):
        raise RecipeError(f"{spot}.search: name two or more methods, each once", fix="list them")
    return tuple(get_method(name, where=f"{spot}.search") for name in names)


def _fit(data: dict[str, Any], method: MergeMethod) -> None:
    """Make plain data a recipe of one of the methods it may have: what that one does not take goes."""
    data["merge_method"] = method.name
    averages = method.base == "optional" and not method.on_task_vectors(True)
    listed = [holder.get("model") for _, holder in _holders(data)]
    if method.base == "forbidden" or (averages and data.get("base_model") not in listed):
        data.pop("base_model", None)
    for _, holder in _holders(data):
        if isinstance(holder.get("parameters"), dict):
            holder["parameters"] = {
                name: value for name, value in holder["parameters"].items() if name in method.parameters
            }


def _check_names(recipe: Mapping[str, object], methods: Sequence[MergeMethod], where: str) -> None:
    """Make sure that every parameter is one of some method's: :func:`_fit` would take it out of all recipes.

    Raises:
        RecipeError: if no method knows it.
    """
    for path, holder in _holders(recipe):
        parameters, spot = holder.get("parameters"), place(where, (*path, "parameters"))
        for name in parameters if isinstance(parameters, dict) else ():
            if not any(name in method.parameters or name in method.ignores for method in methods):
                methods[0].parameter(name, where=spot)


def _holders(data: object, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Everything in a recipe that may have parameters, with the way to it."""
    if isinstance(data, Mapping):
        yield path, data
        for key in ("models", "slices", "sources"):
            listed = data.get(key)
            for index, entry in enumerate(listed if isinstance(listed, list) else ()):
                yield from _holders(entry, (*path, key, index))


def _is_weight(path: Path) -> bool:
    return path[0] == "models" and path[-1] == "weight"


def _tensors(recipe: Recipe) -> tuple[Named, ...]:
    """The tensors whose names filters see: those of the base, or of the first model."""
    base = recipe.base_model
    reference = base if isinstance(base, ModelRef) else recipe.models[0]
    return tuple(Checkpoint.open(reference).tensors.values())
