"""The merges that are timed: methods with their parameters, and what is promised for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from bench.models import Models

__all__ = ["ROWS", "Row", "inputs", "recipe", "row_of", "write_recipe"]


@dataclass(frozen=True)
class Row:
    """One kind of merge.

    Attributes:
        method: its name.
        base: whether a base is given.
        own: parameters of each model; a weight of ``None`` is one over the number of models.
        shared: parameters of all.
        experts: how many it takes, where it does not take any number.
        at_best: how many times faster than mergekit at its best settings it is to be.
        at_defaults: the same for its defaults.
        over_floor: how many times the plain reading and writing it may take, with a cold cache.
        random: whether its masks are drawn, so that two tools' outputs differ.
    """

    method: str
    base: bool = True
    own: Mapping[str, float | None] = field(default_factory=dict)
    shared: Mapping[str, float] = field(default_factory=dict)
    experts: int | None = None
    at_best: float = 5.0
    at_defaults: float = 5.0
    over_floor: float | None = None
    random: bool = False


def _sparse(method: str, density: float, **settings: float) -> Row:
    """A method that drops small or random changes."""
    own = {"weight": 0.5, "density": density, **settings}
    random = method != "breadcrumbs" and method != "ties"
    return Row(method, own=own, at_best=40, at_defaults=40, over_floor=2.0, random=random)


ROWS: dict[str, Row] = {
    "linear": Row("linear", base=False, own={"weight": None}, at_best=4, at_defaults=6, over_floor=1.3),
    "ties 0.2": _sparse("ties", 0.2),
    "ties 0.5": _sparse("ties", 0.5),
    "dare_ties 0.2": _sparse("dare_ties", 0.2),
    "dare_ties 0.5": _sparse("dare_ties", 0.5),
    "breadcrumbs 0.2": _sparse("breadcrumbs", 0.2, gamma=0.01),
    "breadcrumbs 0.5": _sparse("breadcrumbs", 0.5, gamma=0.01),
    "della 0.5": Row(
        "della",
        own={"weight": 0.5, "density": 0.5, "epsilon": 0.1},
        at_best=15,
        at_defaults=15,
        random=True,
    ),
    "slerp": Row("slerp", shared={"t": 0.4}, experts=1),
    "karcher": Row("karcher", base=False),
    "model_stock": Row("model_stock"),
}


def inputs(row: Row, models: Models, experts: int) -> list[Path]:
    """The directories that the merge reads."""
    return [*([models.base] if row.base else []), *models.experts[: row.experts or experts]]


def recipe(row: Row, models: Models, experts: int, dtype: str = "bfloat16") -> dict[str, object]:
    """The recipe, for both tools."""
    listed = models.experts[: row.experts or experts]
    own = {name: 1 / len(listed) if value is None else value for name, value in row.own.items()}
    data: dict[str, object] = {
        "merge_method": row.method,
        "models": [{"model": str(path), **({"parameters": own} if own else {})} for path in listed],
        "dtype": dtype,
    }
    if row.base:
        data["base_model"] = str(models.base)
    if row.shared:
        data["parameters"] = dict(row.shared)
    return data


def write_recipe(
    folder: Path, name: str, row: Row, models: Models, experts: int, dtype: str = "bfloat16"
) -> Path:
    """Write the recipe into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name.replace(' ', '-')}-{experts}.yml"
    path.write_text(yaml.safe_dump(recipe(row, models, experts, dtype), sort_keys=False))
    return path


def row_of(name: str) -> Row:
    """A row that is compared with mergekit, or one for any registered method.

    The latter takes the defaults, and the middle of the range where there is no default.
    """
    if name in ROWS:
        return ROWS[name]
    from mergery.methods import get_method

    method = get_method(name)
    fractions = {"density": 0.5}
    own: dict[str, float | None] = {}
    shared: dict[str, float] = {}
    for parameter in method.parameters.values():
        value = fractions.get(parameter.name)
        if value is None and parameter.default is None and parameter.search:
            value = sum(parameter.search) / 2
        if value is not None:
            (own if parameter.per_model else shared)[parameter.name] = value
    most = method.models[1]
    return Row(
        name,
        base=method.base in ("required", "first"),
        own=own,
        shared=shared,
        experts=None if most == float("inf") else int(most) - (method.base == "first"),
    )
