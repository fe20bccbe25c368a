"""Path spaces: which path a point of the unit cube stands for.

Two ways to write paths as numbers. The paper's (:class:`PaperEncoding`) has a yes or no for every layer of
every model, several times over, and a scale for every pair of layers: thousands of numbers. The aligned one
(:class:`AlignedEncoding`) has for every layer of the donor a choice of what runs in its place, and a gain.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol, TypeAlias, cast

from mergery.errors import RecipeError
from mergery.evolve.algorithms.api import Point, Problem
from mergery.evolve.paths.path import Hop, Path

__all__ = ["AlignedEncoding", "Encoding", "PaperEncoding"]

_Genome: TypeAlias = tuple[float | str, ...]
_Domain: TypeAlias = "tuple[float, float] | tuple[str, ...]"

_RANGE = (0.4, 1.5)
"""Factors tried: those of SMM-Bench (arXiv:2509.02555), whose path space is layer by layer, too."""

_INCLUDED = 0.5 + 2 / 6
"""Two standard deviations above the threshold, with the paper's sigma of a sixth of the range."""

_BLOCKS = (4, 8, 16)
"""Into how many blocks of layers the levels from coarse to fine cut a model."""


class Encoding(Protocol):
    """Paths as points of the unit cube."""

    @property
    def depths(self) -> tuple[int, ...]:
        """How many layers each model has, the donor's first."""
        ...

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the dimensions."""
        ...

    @property
    def domains(self) -> tuple[_Domain, ...]:
        """What each dimension's values are: the ends of a range, or words."""
        ...

    @property
    def problem(self) -> Problem:
        """What algorithms know of it."""
        ...

    @property
    def identity(self) -> object:
        """Plain data that says which encoding it is."""
        ...

    def genome(self, point: Point) -> _Genome:
        """The values at a point, in their own units."""
        ...

    def path(self, genome: Sequence[float | str]) -> Path:
        """The path that these values stand for.

        Raises:
            RecipeError: if they stand for none.
        """
        ...


@dataclass(frozen=True)
class PaperEncoding:
    """The search space of Akiba et al. (arXiv:2403.13187, data flow space).

    All M layers of all models stand in order, and that ``repeats`` times: T slots. A real indicator for each
    slot says whether its layer runs: where it is above the middle of its range. A matrix of M x M scales
    holds the factor on the residual stream between any two layers that follow each other. The donor's first
    layer runs before all slots and its last one after them, whatever the indicators say.

    The search begins at the donor as it is: indicators of its inner layers in the first repetition are two
    standard deviations above the threshold, all others on it; all scales are 1.

    Attributes:
        depths: how many layers each model has, the donor's first.
        repeats: r of the paper, where it is 3.
        scales: smallest and largest scale. The paper sets no bounds; a cube has them.
    """

    depths: tuple[int, ...]
    repeats: int = 3
    scales: tuple[float, float] = _RANGE

    def __post_init__(self) -> None:
        _check(self.depths, self.scales)
        if self.repeats < 1:
            raise RecipeError(f"repeats: {self.repeats}", fix="write 1 or more")

    @property
    def names(self) -> tuple[str, ...]:
        """``path.run[r].model[k].layer[i]``, then ``path.scale[previous][next]`` by numbers of layers."""
        runs = (
            f"path.run[{time}].model[{model}].layer[{layer}]"
            for time in range(self.repeats)
            for model, layer in self._layers
        )
        count = len(self._layers)
        pairs = (f"path.scale[{before}][{after}]" for before in range(count) for after in range(count))
        return (*runs, *pairs)

    @property
    def domains(self) -> tuple[_Domain, ...]:
        """Indicators from -1 to 1, then scales."""
        return ((-1.0, 1.0),) * self._slots + (self.scales,) * len(self._layers) ** 2

    @property
    def problem(self) -> Problem:
        """All dimensions are real."""
        inner = range(1, self.depths[0] - 1)
        start = [_INCLUDED if slot in inner else 0.5 for slot in range(self._slots)]
        one = (1.0 - self.scales[0]) / (self.scales[1] - self.scales[0])
        where = [layer / max(1, self.depths[model] - 1) for model, layer in self._layers]
        pairs = len(self._layers) ** 2
        return Problem(
            start=(*start, *[one] * pairs), depths=(*where * self.repeats, *where * len(self._layers))
        )

    @property
    def identity(self) -> object:
        """Plain data that says which encoding it is."""
        return ["paper", list(self.depths), self.repeats, list(self.scales)]

    def genome(self, point: Point) -> _Genome:
        """Indicators, then scales."""
        low, high = self.scales
        indicators = [2.0 * share - 1.0 for share in point[: self._slots]]
        return (*indicators, *(round(low + share * (high - low), 6) for share in point[self._slots :]))

    def path(self, genome: Sequence[float | str]) -> Path:
        """The path: layers whose indicator is above 0, between the donor's first and last."""
        numbers = cast("Sequence[float]", genome)
        count = len(self._layers)
        run = [slot % count for slot in range(self._slots) if numbers[slot] > 0.0]
        order = [0, *run, self.depths[0] - 1]
        scales = [numbers[self._slots + before * count + after] for before, after in pairwise(order)]
        return Path.from_scales([self._layers[index] for index in order], [1.0, *scales])

    @property
    def _layers(self) -> list[tuple[int, int]]:
        return [(model, layer) for model, depth in enumerate(self.depths) for layer in range(depth)]

    @property
    def _slots(self) -> int:
        return sum(self.depths) * self.repeats


@dataclass(frozen=True)
class AlignedEncoding:
    """A choice for every layer of the donor: skip it, run it or another model's, once or twice; and a gain.

    Other models' layers stand at the same share of their depth. A layer that runs twice has one gain. Where
    more layers would run than allowed, second runs are left out, those farthest from the middle of the model
    first. The search begins at the donor as it is.

    Attributes:
        depths: how many layers each model has, the donor's first.
        gains: smallest and largest gain, searched on a logarithmic scale; ``None`` leaves all at 1, for
            architectures that take none.
        longest: how many layers may run, as a multiple of the donor's.
    """

    depths: tuple[int, ...]
    gains: tuple[float, float] | None = _RANGE
    longest: float = 1.5

    def __post_init__(self) -> None:
        _check(self.depths, self.gains or _RANGE)
        if not self.longest >= 1.0:
            raise RecipeError(
                f"longest: {self.longest:g} of the donor's layers: not even those may run",
                fix="write 1 or more",
            )

    @property
    def choices(self) -> tuple[str, ...]:
        """What a slot may hold, by the numbers of layers that run."""
        models = [f"model {model}" for model in range(len(self.depths))]
        return ("skip", *models, *(f"{model} twice" for model in models))

    @property
    def names(self) -> tuple[str, ...]:
        """``path.layer[i]``, then ``path.gain[i]``."""
        kinds = ("layer",) if self.gains is None else ("layer", "gain")
        return tuple(f"path.{kind}[{slot}]" for kind in kinds for slot in range(self.depths[0]))

    @property
    def domains(self) -> tuple[_Domain, ...]:
        """The choices of each slot, then the gains' range."""
        slots = self.depths[0]
        return (self.choices,) * slots + (() if self.gains is None else (self.gains,) * slots)

    @property
    def problem(self) -> Problem:
        """Slots are choices, gains are real; levels go by blocks of layers."""
        slots = self.depths[0]
        kinds = 1 if self.gains is None else 2
        start = self._everywhere(1)
        others = ((f"layers of model {k}", self._everywhere(1 + k)) for k in range(1, len(self.depths)))
        blocks = [count for count in _BLOCKS if count < slots]
        levels = (
            tuple(kind * count + slot * count // slots for kind in range(kinds) for slot in range(slots))
            for count in (*blocks, slots)
        )
        return Problem(
            start=start,
            choices=(len(self.choices),) * slots + (0,) * (len(start) - slots),
            levels=tuple(levels) if blocks else (),
            depths=tuple(slot / max(1, slots - 1) for slot in range(slots)) * kinds,
            known=tuple(others),
        )

    @property
    def identity(self) -> object:
        """Plain data that says which encoding it is."""
        return ["aligned", list(self.depths), self.gains and list(self.gains), self.longest]

    def genome(self, point: Point) -> _Genome:
        """The choices' words, then gains."""
        slots, choices = self.depths[0], self.choices
        words = (choices[min(len(choices) - 1, int(share * len(choices)))] for share in point[:slots])
        if self.gains is None:
            return tuple(words)
        low, high = map(math.log, self.gains)
        return (*words, *(round(math.exp(low + share * (high - low)), 6) for share in point[slots:]))

    def path(self, genome: Sequence[float | str]) -> Path:
        """The path: what each slot holds, from the bottom up."""
        slots = self.depths[0]
        gains = [1.0] * slots if self.gains is None else cast("Sequence[float]", genome[slots:])
        held = [list(self._hops(slot, str(genome[slot]), gains[slot])) for slot in range(slots)]
        surplus = sum(map(len, held)) - int(self.longest * slots)
        outermost = sorted(range(slots), key=lambda slot: (-abs(2 * slot - (slots - 1)), -slot))
        for slot in [slot for slot in outermost if len(held[slot]) == 2][: max(0, surplus)]:
            held[slot].pop()
        return Path(tuple(hop for hops in held for hop in hops))

    def _hops(self, slot: int, choice: str, gain: float) -> Iterator[Hop]:
        number = self.choices.index(choice)
        if number:
            times, model = divmod(number - 1, len(self.depths))
            last = max(1, self.depths[0] - 1)
            layer = round(slot * (self.depths[model] - 1) / last)
            yield from [Hop(model, layer, gain)] * (times + 1)

    def _everywhere(self, choice: int) -> Point:
        """The point where every slot has one choice, and all gains are 1."""
        slots = self.depths[0]
        layers = [(choice + 0.5) / len(self.choices)] * slots
        if self.gains is None:
            return tuple(layers)
        low, high = map(math.log, self.gains)
        return (*layers, *[-low / (high - low)] * slots)


def _check(depths: Sequence[int], factors: tuple[float, float]) -> None:
    if not depths or depths[0] < 2 or min(depths) < 1:
        raise RecipeError(
            f"depths: {', '.join(map(str, depths)) or 'none'}: the donor needs two layers, others one",
            fix="name models with layers",
        )
    low, high = factors
    if not 0.0 < low <= 1.0 <= high < math.inf or low == high:
        raise RecipeError(
            f"factors from {low:g} to {high:g}: the search begins at 1", fix="write a range around 1, above 0"
        )
