"""The whole natural path on real models, in minutes: a zoo, a search, a merged model, a table.

Two experts share a base. One knows a language and cannot solve word problems in it; the other solves
word problems in English only. No plain merge of the two solves them in the other language; a searched
one does.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mergery.engine.output import check_free
from mergery.evaluate import evaluate, load_items
from mergery.evaluate.intervals import Interval, wilson
from mergery.evolve import Evolved, Progress, SearchSpec, evolve
from mergery.evolve.fitness import Fitness
from mergery.recipe import Recipe
from mergery.zoo import DEMO_EXPERTS, Zoo, ready_made

__all__ = ["Demo", "Row", "run_demo"]

TASK = "maths-j"
LANGUAGE, MATHS = DEMO_EXPERTS
TRIALS, POPULATION, SIGMA = 420, 14, 0.35
WEIGHT = {"search": [-0.5, 3.0], "start": 0.8, "by": "block"}
GRID = tuple(round(0.1 * step, 1) for step in range(1, 21))


@dataclass(frozen=True)
class Row:
    """One model of the table.

    Attributes:
        name: what it is.
        kind: ``base``, ``expert``, ``plain``, ``tuned``, ``control`` or ``evolved``.
        interval: its share of right answers on the test items, with its 95 % interval (Wilson).
        items: how many items that is of.
    """

    name: str
    kind: str
    interval: Interval
    items: int

    @classmethod
    def of(cls, name: str, kind: str, outcomes: NDArray[np.float32]) -> Row:
        """The row of a model's outcomes on the test items."""
        return cls(name, kind, wilson(int(outcomes.sum()), len(outcomes)), len(outcomes))

    def to_dict(self) -> dict[str, object]:
        """Plain data for JSON."""
        span = self.interval
        numbers = {"score": span.estimate, "low": span.low, "high": span.high}
        return {"kind": self.kind, **numbers, "items": self.items}


@dataclass(frozen=True)
class Demo:
    """What the demo made.

    Attributes:
        rows: the table.
        evolved: the search's result: recipe, model, picture, report.
        zoo: the tiny experts.
        search_file: the search's YAML.
        table_file: the table as JSON.
    """

    rows: tuple[Row, ...]
    evolved: Evolved
    zoo: Zoo
    search_file: Path
    table_file: Path

    def to_dict(self) -> dict[str, dict[str, object]]:
        """The table as plain data."""
        return {"test": {row.name: row.to_dict() for row in self.rows}}


def run_demo(
    out: Path,
    *,
    zoo: Path | None = None,
    trials: int = TRIALS,
    seed: int = 0,
    device: str = "cpu",
    stage: Callable[[str], None] = lambda _: None,
    progress: Callable[[Progress], None] | None = None,
) -> Demo:
    """Run the whole path on a zoo.

    Run again on the same directory it picks up where it was stopped.

    Args:
        out: directory for all it makes; it must not exist, be empty, or be an earlier demo's.
        zoo: a zoo that was built; the one that comes with Mergery if ``None``.
        trials: recipes that the search tries.
        seed: of the search.
        device: where to merge and score.
        stage: told what is being done.
        progress: told after every trial of the search.

    Raises:
        OutputError: if ``out`` holds something else.
    """
    stage("opening the zoo")
    experts = _zoo(out) if zoo is None else _built_zoo(out, zoo)
    search = _search(experts, trials, seed)
    search_file = out / "search.yml"
    search_file.write_text(search.to_yaml(), encoding="utf-8")
    stage("searching")
    evolved = evolve(search, out / "evolved", device=device, progress=progress)
    stage("scoring every parent and the plain merges")
    rows = (
        *_members(experts, device),
        *_merges(experts, device),
        Row.of("evolved", "evolved", evolved.report.best.test),
    )
    demo = Demo(rows, evolved, experts, search_file, out / "table.json")
    demo.table_file.write_text(json.dumps(demo.to_dict(), indent=2) + "\n")
    return demo


def _zoo(out: Path) -> Zoo:
    """The zoo of an earlier run, or a new one."""
    directory = out / "zoo"
    if (directory / "zoo.json").exists():
        return Zoo.open(directory)
    check_free(out)
    return ready_made(directory)


def _built_zoo(out: Path, directory: Path) -> Zoo:
    """Somebody's own zoo, and a directory for what is made of it."""
    zoo = Zoo.open(directory)
    if not (out / "search.yml").exists():
        check_free(out)
    out.mkdir(parents=True, exist_ok=True)
    return zoo


def _search(zoo: Zoo, trials: int, seed: int) -> SearchSpec:
    """The search: a weight for each expert and each block of layers."""
    experts = [expert | {"parameters": {"weight": WEIGHT}} for expert in _experts(zoo)]
    return SearchSpec.from_dict(
        {
            "recipe": _recipe(zoo, "task_arithmetic", experts),
            "search": {
                "algorithm": "cma-es",
                "trials": trials,
                "population": POPULATION,
                "sigma": SIGMA,
                "seed": seed,
            },
            "task": {
                "validation": str(zoo.items(TASK, "validation")),
                "test": str(zoo.items(TASK, "test")),
            },
        }
    )


def _recipe(zoo: Zoo, method: str, models: list[dict[str, object]], **rest: object) -> dict[str, object]:
    base = {"base_model": str(zoo.member("base").path)}
    return {"merge_method": method, **base, "models": models, **rest}


def _members(zoo: Zoo, device: str) -> Iterator[Row]:
    """The base, the experts and the control, as stock transformers loads them."""
    for name, kind in (("base", "base"), (LANGUAGE, "expert"), (MATHS, "expert"), ("control", "control")):
        scores = evaluate(zoo.member(name).path, zoo.items(TASK, "test"), device=device)
        yield Row.of(name, kind, scores.outcomes)


def _merges(zoo: Zoo, device: str) -> Iterator[Row]:
    """The plain merges at their usual settings, and task arithmetic tuned on the validation items."""
    plain = {name: Recipe.from_dict(data) for name, data in _plain(zoo).items()}
    start = plain["task arithmetic"]
    test = Fitness.open(start, load_items(zoo.items(TASK, "test")), device=device)
    for name, recipe in plain.items():
        yield Row.of(name, "plain", test.score(recipe).scores.outcomes)
    validation = Fitness.open(start, load_items(zoo.items(TASK, "validation")), device=device)
    scaled = [Recipe.from_dict(_arithmetic(zoo) | {"parameters": {"lambda": scale}}) for scale in GRID]
    best = max(scaled, key=lambda recipe: validation.score(recipe).scores.value)
    yield Row.of("task arithmetic, tuned", "tuned", test.score(best).scores.outcomes)


def _arithmetic(zoo: Zoo) -> dict[str, object]:
    return _recipe(zoo, "task_arithmetic", _experts(zoo))


def _experts(zoo: Zoo) -> list[dict[str, object]]:
    return [{"model": str(zoo.member(name).path)} for name in (LANGUAGE, MATHS)]


def _plain(zoo: Zoo) -> Mapping[str, dict[str, object]]:
    """The merges that people try first: TIES at its paper's density, DARE at one half."""
    language, maths = _experts(zoo)
    return {
        "uniform average": {"merge_method": "linear", "models": [language, maths]},
        "task arithmetic": _arithmetic(zoo),
        "ties, density 0.2": _recipe(zoo, "ties", [language, maths], parameters={"density": 0.2}),
        "dare_ties, density 0.5": _recipe(zoo, "dare_ties", [language, maths], parameters={"density": 0.5}),
        "slerp, t 0.5": {
            "merge_method": "slerp",
            "base_model": language["model"],
            "models": [maths],
            "parameters": {"t": 0.5},
        },
    }
