"""What a suite's search is up against: its parents, plain merges, and what a search can reach.

The finalists of a probe are compared on the test items themselves, and so is the one weight of task
arithmetic: this says where the heights are, not how well a search does.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from statistics import median

import numpy as np
from cmaes import CMA

from bench.search.suite import Suite
from mergery.engine import LiveMerge
from mergery.evaluate import get_evaluator
from mergery.evolve import SearchSpace
from mergery.evolve.fitness import Fitness
from mergery.evolve.groups import Grouping
from mergery.recipe import Recipe

LOW, HIGH = -0.5, 1.5
SCALES = tuple(scale / 10 for scale in range(1, 16))
FINALISTS = 5


@dataclass(frozen=True)
class Found:
    """Where a probe came to: right answers on the test items, 0 to 1, and the weights in the order of the
    experts, where they are few enough to be looked at."""

    score: float
    weights: tuple[float, ...] = ()


class Landscape:
    """Scores task-arithmetic merges of one suite."""

    def __init__(self, suite: Suite) -> None:
        self.suite = suite
        self.seconds: list[float] = []
        start = self.recipe([0.0] * len(suite.experts))
        live = LiveMerge(start)
        evaluator = get_evaluator("exact_match")
        self._on = {split: Fitness(live, suite.items(split), evaluator) for split in ("search", "test")}

    def space(self, by: Grouping = "model") -> SearchSpace:
        """One weight per expert and group, in the pilot's range."""
        knob = {"search": [LOW, HIGH], "start": 0.5, "by": by}
        models = [
            {"model": str(self.suite.model(name)), "parameters": {"weight": knob}}
            for name in self.suite.experts
        ]
        base = str(self.suite.model(self.suite.base))
        return SearchSpace.open({"merge_method": "task_arithmetic", "base_model": base, "models": models})

    def recipe(self, weights: Sequence[float]) -> Recipe:
        """Task arithmetic with a weight per expert."""
        return self.space().recipe(tuple(weights))

    def score(self, recipe: Recipe, split: str = "test") -> float:
        """Right answers, 0 to 1."""
        begin = time.process_time()
        value = self._on[split].score(recipe).scores.value
        if split == "search":
            self.seconds.append(time.process_time() - begin)
        return value

    def best(self, recipes: Sequence[Recipe]) -> Found:
        """Those that do best on the search items, scored on the test items; the best of them."""
        reached = [self.score(recipe, "search") for recipe in recipes]
        order = sorted(range(len(recipes)), key=lambda at: -reached[at])[:FINALISTS]
        return max((Found(self.score(recipes[at])) for at in order), key=lambda found: found.score)

    def scaled(self) -> Found:
        """Task arithmetic with one weight for all."""
        count = len(self.suite.experts)
        found = [(self.score(self.recipe([scale] * count)), scale) for scale in SCALES]
        score, scale = max(found)
        return Found(score, (scale,))

    def random(self, trials: int, seed: int) -> Found:
        """The best of random global weights."""
        draw = Random(seed)
        count = len(self.suite.experts)
        return self.best(
            [self.recipe([round(draw.uniform(LOW, HIGH), 3) for _ in range(count)]) for _ in range(trials)]
        )

    def searched(self, by: Grouping, trials: int, seed: int) -> Found:
        """What CMA-ES (the paper's: start in the middle, sigma a sixth) finds."""
        space = self.space(by)
        size = len(space.start)
        engine = CMA(np.full(size, 0.5), 1 / 6, bounds=np.array([[0.0, 1.0]] * size), seed=seed)
        tried: list[tuple[float, Recipe]] = []
        while len(tried) < trials:
            told = []
            for _ in range(engine.population_size):
                point = engine.ask()
                recipe = space.recipe(space.decode([float(number) for number in point]))
                value = self.score(recipe, "search")
                tried.append((value, recipe))
                told.append((point, -value))
            engine.tell(told)
        best = sorted(tried, key=lambda pair: -pair[0])[:FINALISTS]
        return max((Found(self.score(recipe)) for _, recipe in best), key=lambda found: found.score)

    def cost(self) -> float:
        """Processor seconds of one candidate on the search items, building included; the median so far."""
        return median(self.seconds)


def describe(suite: Suite, *, trials: int = 60, deep: bool = False, seed: int = 0) -> dict[str, str]:
    """One row of the table, in % of the test items."""
    begin = time.perf_counter()
    land = Landscape(suite)
    count = len(suite.experts)
    parents = [land.score(land.recipe([float(at == other) for other in range(count)])) for at in range(count)]
    scaled = land.scaled()
    row = {
        "suite": suite.name,
        "base": _percent(land.score(land.recipe([0.0] * count))),
        "experts": " ".join(_percent(score) for score in parents),
        "average": _percent(land.score(land.recipe([1 / count] * count))),
        "task arithmetic": f"{_percent(scaled.score)} at {scaled.weights[0]}",
        f"best of {trials} random": _percent(land.random(trials, seed).score),
    }
    if deep:
        for by, budget in (("model", 160), ("layer", 400)):
            row[f"CMA-ES by {by}, {budget}"] = _percent(land.searched(by, budget, seed).score)
    row["CPU s a candidate"] = f"{land.cost():.2f}"
    row["took, s"] = f"{time.perf_counter() - begin:.0f}"
    return row


def _percent(score: float) -> str:
    return f"{100 * score:.1f}"
