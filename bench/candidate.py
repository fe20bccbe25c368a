"""What a candidate costs: building it in the live model against scoring it."""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from bench.page import table, write
from mergery.demo import LANGUAGE, MATHS, TASK
from mergery.evolve import SearchSpace
from mergery.evolve.fitness import Fitness
from mergery.zoo import Zoo, ready_made

CANDIDATES = 25
ROUNDS = 5
METHODS = {"task_arithmetic": {}, "ties": {"density": 0.2}, "dare_ties": {"density": 0.5}}


def space(zoo: Zoo, method: str, parameters: dict[str, float]) -> SearchSpace:
    """The demo's search space, for any method."""
    knob = {"search": [0.1, 1.5], "by": "block"}
    experts = [
        {"model": str(zoo.member(name).path), "parameters": {"weight": knob}} for name in (LANGUAGE, MATHS)
    ]
    recipe = {"merge_method": method, "base_model": str(zoo.member("base").path), "models": experts}
    return SearchSpace.open(recipe | {"parameters": parameters})


def main(options: Sequence[str] = ()) -> None:
    """Medians of medians, over random candidates."""
    argparse.ArgumentParser(prog="python -m bench candidate").parse_args(options)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        zoo = ready_made(Path(folder) / "zoo")
        for method, parameters in METHODS.items():
            searched = space(zoo, method, parameters)
            draw = random.Random(0)
            points = [[draw.random() for _ in searched.start] for _ in range(CANDIDATES)]
            recipes = [searched.recipe(searched.decode(point)) for point in points]
            fitness = Fitness.open(recipes[0], zoo.items(TASK, "validation"))
            fitness.score(recipes[0])
            rounds = [[fitness.score(recipe) for recipe in recipes] for _ in range(ROUNDS)]
            build = median(median(scored.build_seconds for scored in one) for one in rounds)
            score = median(median(scored.score_seconds for scored in one) for one in rounds)
            ratio = f"{build / score:.3f}"
            rows.append((method, f"{1e3 * build:.1f}", f"{1e3 * score:.1f}", ratio, len(fitness.items)))
    header = ("method", "building, ms", "scoring, ms", "building / scoring", "items")
    lines = [
        "Building one candidate in memory (two experts, a weight for each expert and block), scoring it on",
        f"the validation items of the demo's zoo; medians of {ROUNDS} rounds of {CANDIDATES} candidates.",
        "",
        *table(header, rows),
    ]
    write("candidate", "Building a candidate against scoring it", lines)
