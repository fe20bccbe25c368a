"""Recipes in mergekit's grammar, drawn by a seeded generator: every method, every place a value can stand."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["LAYERS", "METHODS", "MODELS", "Made", "generate"]

LAYERS = 4
MODELS = ("one", "two", "three", "four", "five")
FILTERS = ("self_attn", "mlp", "o_proj", "norm", "embed_tokens", "layers.1.", "down_proj")
NEGATIVE_EVERY = 10

Draw = Callable[[random.Random], object]


def _uniform(low: float, high: float) -> Draw:
    return lambda rng: round(rng.uniform(low, high), 3)


def _one_of(*values: object) -> Draw:
    return lambda rng: rng.choice(values)


@dataclass(frozen=True)
class Method:
    """What a generated recipe of one method may hold.

    Attributes:
        own: parameters of each model, with the values they take.
        shared: parameters of all.
        switches: parameters of all that are never gradients or filtered.
        base: ``no``, ``yes``, ``maybe``, or ``one`` where the base is one of the models merged.
        models: how many models beside the base.
        negative: whether a weight may be negative.
    """

    own: Mapping[str, Draw] = field(default_factory=dict)
    shared: Mapping[str, Draw] = field(default_factory=dict)
    switches: Mapping[str, Draw] = field(default_factory=dict)
    base: str = "yes"
    models: tuple[int, int] = (2, 5)
    negative: bool = True


_SWITCH = _one_of(True, False)
_WEIGHT = {"weight": _uniform(0.2, 1.2)}
_SPARSE = {**_WEIGHT, "density": _uniform(0.2, 0.9)}
_OUTLIERS = {**_SPARSE, "gamma": _uniform(0.01, 0.05)}
_RANKED = {**_WEIGHT, "density": _uniform(0.35, 0.65), "epsilon": _uniform(0.05, 0.3)}
_SUM = {"normalize": _SWITCH, "rescale": _SWITCH, "int8_mask": _SWITCH}
_LAMBDA = {"lambda": _uniform(0.5, 1.5)}
_AGENTS = {"epsilon": _uniform(0.005, 0.02)}

METHODS: dict[str, Method] = {
    "linear": Method(own=_WEIGHT, switches={"normalize": _SWITCH}, base="no"),
    "slerp": Method(shared={"t": _uniform(0.0, 1.0)}, base="one", models=(1, 1), negative=False),
    "nuslerp": Method(
        own=_WEIGHT,
        switches={"nuslerp_flatten": _SWITCH, "nuslerp_row_wise": _SWITCH},
        base="maybe",
        models=(2, 2),
    ),
    "multislerp": Method(own=_WEIGHT, switches={"normalize_weights": _SWITCH}, base="maybe"),
    "karcher": Method(switches={"tol": _one_of(1e-5, 1e-6)}, base="no", negative=False),
    "task_arithmetic": Method(own=_WEIGHT, shared=_LAMBDA, switches={"normalize": _SWITCH}),
    "ties": Method(own=_SPARSE, shared=_LAMBDA, switches=_SUM),
    "dare_linear": Method(own=_SPARSE, shared=_LAMBDA, switches=_SUM),
    "dare_ties": Method(own=_SPARSE, shared=_LAMBDA, switches=_SUM),
    "breadcrumbs": Method(own=_OUTLIERS, shared=_LAMBDA, switches=_SUM),
    "breadcrumbs_ties": Method(own=_OUTLIERS, shared=_LAMBDA, switches=_SUM),
    "della": Method(own=_RANKED, shared=_LAMBDA, switches=_SUM),
    "della_linear": Method(own=_RANKED, shared=_LAMBDA, switches=_SUM),
    "sce": Method(
        shared={"select_topk": _uniform(0.2, 1.0)}, switches={"int8_mask": _SWITCH}, negative=False
    ),
    "ram": Method(shared=_AGENTS, negative=False),
    "ramplus_tl": Method(
        shared={**_AGENTS, "r": _uniform(0.05, 0.5), "alpha": _uniform(0.1, 0.5)}, negative=False
    ),
    "model_stock": Method(switches={"filter_wise": _SWITCH}, negative=False),
    "arcee_fusion": Method(base="one", models=(1, 1), negative=False),
    "nearswap": Method(shared={"t": _uniform(0.001, 0.02)}, models=(1, 1), negative=False),
    "passthrough": Method(own={"scale": _uniform(0.3, 1.5)}, base="no", models=(1, 1), negative=False),
}


@dataclass(frozen=True)
class Made:
    """A recipe that was drawn.

    Attributes:
        name: the method and a number.
        data: the recipe.
        traits: what is in it that could matter.
    """

    name: str
    data: dict[str, object]
    traits: tuple[str, ...]

    @property
    def method(self) -> str:
        """What it merges by."""
        return str(self.data["merge_method"])

    @property
    def seed(self) -> int:
        """Of its masks."""
        return int(str(self.data.get("seed", 0)))


def generate(count: int, seed: int, models: Path) -> list[Made]:
    """Draw recipes, the methods in turn, of the models in one folder; the same for the same seed."""
    names = list(METHODS)
    return [_Drawing(names[index % len(names)], index, seed, models).made() for index in range(count)]


class _Drawing:
    """One recipe in the making."""

    def __init__(self, name: str, index: int, seed: int, folder: Path) -> None:
        self._name, self._index, self._folder = name, index, folder
        self._method = METHODS[name]
        self._rng = random.Random(f"{seed}/{index}")
        self._traits: dict[str, None] = {}
        turn = index // len(METHODS) + index % len(METHODS)
        self._negative = self._method.negative and turn % NEGATIVE_EVERY == 0
        self._models = self._rng.sample(MODELS, self._rng.randint(*self._method.models))
        roles = {"no": False, "yes": True, "one": True, "maybe": self._chance(0.5)}
        self._base = roles[self._method.base]

    def made(self) -> Made:
        """The whole recipe."""
        data: dict[str, object] = {"merge_method": self._name, "dtype": "float32"}
        if self._base:
            data["base_model"] = str(self._folder / "base")
        sliced = self._chance(0.4)
        levels = {name: self._level(name, sliced) for name in self._method.own}
        body = self._slices(levels) if sliced else self._listed(levels)
        shared = self._shared()
        of_all = [name for name, level in levels.items() if level in ("document", "mixed")]
        shared |= {name: self._value(name) for name in of_all}
        if self._chance(0.08):
            self._traits["modules"] = None
            module = {**body, **({"parameters": shared} if shared else {})}
            data["modules"] = {"default": module}
        else:
            data |= {**body, **({"parameters": shared} if shared else {})}
        if self._name.startswith(("dare", "della")):
            data["seed"] = self._rng.randrange(1000)
        if self._base:
            self._traits["base"] = None
        return Made(f"{self._name}-{self._index}", data, tuple(self._traits))

    def _chance(self, share: float) -> bool:
        return self._rng.random() < share

    def _level(self, name: str, sliced: bool) -> str:
        """Where a parameter of models is given."""
        if self._negative and name == "weight":
            return "own"
        return self._rng.choice(["own", "own", "document", "mixed", *(["slice"] if sliced else [])])

    def _value(self, name: str, *, negative: bool = False) -> object:
        """A number, a gradient or a list by name."""
        draw = {**self._method.own, **self._method.shared}[name]
        if self._negative and name == "weight":
            draw = _uniform(-0.5, -0.1) if negative else _uniform(0.6, 1.2)
        kind = self._rng.random()
        if name == "density" and kind < 0.05:
            return 1.0
        if kind < 0.55:
            return draw(self._rng)
        if kind < 0.75:
            return self._gradient(draw)
        return [*self._by_name(draw), {"value": draw(self._rng)}]

    def _gradient(self, draw: Draw) -> list[object]:
        self._traits["gradient"] = None
        return [draw(self._rng) for _ in range(self._rng.randint(2, 5))]

    def _by_name(self, draw: Draw) -> list[object]:
        """Entries with filters, and no last word."""
        self._traits["filters"] = None
        filters = self._rng.sample(FILTERS, self._rng.randint(1, 2))
        return [
            {"filter": word, "value": self._gradient(draw) if self._chance(0.3) else draw(self._rng)}
            for word in filters
        ]

    def _shared(self) -> dict[str, object]:
        """Values for all models; ``t`` is always needed, the others have defaults."""
        chosen = {name: self._value(name) for name in self._method.shared if name == "t" or self._chance(0.6)}
        chosen |= {name: draw(self._rng) for name, draw in self._method.switches.items() if self._chance(0.5)}
        if self._negative and "normalize" in self._method.switches:
            chosen["normalize"] = True  # what the weights are divided by is where tools differ
        for name, value in chosen.items():
            if isinstance(value, bool):
                self._traits[name if value else f"no {name}"] = None
        return chosen

    def _source(self, model: str, levels: Mapping[str, str], *, last: bool) -> dict[str, object]:
        """A model with what it says itself."""
        own: dict[str, object] = {}
        for name, level in levels.items():
            if level == "own":
                own[name] = self._value(name, negative=last)
            elif level == "mixed" and self._chance(0.5):
                own[name] = self._by_name(self._method.own[name])
        if self._negative and last:
            self._traits["negative weight"] = None
        return {"model": str(self._folder / model), **({"parameters": own} if own else {})}

    def _listed(self, levels: Mapping[str, str]) -> dict[str, object]:
        """``models:``, sometimes with the base among them."""
        names = list(self._models)
        if self._base and self._name not in ("nuslerp", "multislerp") and self._chance(0.3):
            self._traits["base listed"] = None
            names.insert(self._rng.randrange(len(names) + 1), "base")
        return {"models": [self._source(name, levels, last=name == self._models[-1]) for name in names]}

    def _slices(self, levels: Mapping[str, str]) -> dict[str, object]:
        """``slices:`` whose sources take layers from different depths."""
        self._traits["slices"] = None
        names = [*self._models, *(["base"] if self._base else [])]
        parts = []
        for _ in range(self._rng.randint(1, 3)):
            length = self._rng.randint(1, LAYERS - 1)
            sources = []
            for name in self._rng.sample(names, len(names)):
                start = self._rng.randint(0, LAYERS - length)
                source = self._source(name, levels, last=name == self._models[-1])
                sources.append({**source, "layer_range": [start, start + length]})
            part: dict[str, object] = {"sources": sources}
            if self._base and self._chance(0.3):
                self._traits["base of a slice"] = None
                part["base_model"] = str(self._folder / self._rng.choice(self._models))
            values = {name: self._value(name) for name, level in levels.items() if level == "slice"}
            values |= {name: self._value(name) for name in self._method.shared if self._chance(0.3)}
            if values:
                part["parameters"] = values
            parts.append(part)
        return {"slices": parts}
