"""Candidates built in memory against candidates merged to disk and loaded; and the memory that takes."""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.measure import Measured, measure
from bench.models import SIZES, Models
from mergery import Recipe
from mergery.engine import LiveMerge, merge
from mergery.engine.stock import load_stock

EXPERTS = 4
TIMES = 10.0
FLOAT32, BFLOAT16 = 4, 2
MAIN = f"from {__name__} import main; main()"


def candidates(models: Models, layers: int, count: int) -> Iterator[Recipe]:
    """DARE-TIES recipes that differ in every layer's weights and densities."""
    draw = random.Random(0)
    for _ in range(count):
        experts = [
            {
                "model": str(path),
                "parameters": {
                    "weight": [round(draw.uniform(0.1, 0.9), 3) for _ in range(layers)],
                    "density": [round(draw.uniform(0.1, 0.9), 3) for _ in range(layers)],
                },
            }
            for path in models.experts
        ]
        yield Recipe.from_dict(
            {
                "merge_method": "dare_ties",
                "base_model": str(models.base),
                "models": experts,
                "dtype": "bfloat16",
            }
        )


def compare(models: Models, layers: int, out: Path, repeat: int) -> Iterator[dict[str, float]]:
    """Seconds of one candidate each way, after a warm-up; by turns either goes first."""
    first, *others = candidates(models, layers, repeat + 1)
    live = LiveMerge(first)
    in_memory(live, first)
    through_disk(first, out)
    for number, recipe in enumerate(others):
        if number % 2:
            yield {**through_disk(recipe, out), **in_memory(live, recipe)}
        else:
            yield {**in_memory(live, recipe), **through_disk(recipe, out)}


def in_memory(live: LiveMerge, recipe: Recipe) -> dict[str, float]:
    """Fill the live model."""
    begin = time.perf_counter()
    live.build(recipe)
    return {"built": time.perf_counter() - begin}


def through_disk(recipe: Recipe, out: Path) -> dict[str, float]:
    """Merge to a directory, and load that in float32, as the live model is."""
    begin = time.perf_counter()
    merge(recipe, out)
    merged = time.perf_counter()
    load_stock(out)
    loaded = time.perf_counter()
    shutil.rmtree(out)
    return {"merged": merged - begin, "loaded": loaded - merged}


def memory(models: Models, size: str, builds: int = 3) -> Measured:
    """A process that builds some candidates; its peak of anonymous memory."""
    paths = map(str, (models.base, *models.experts))
    command = [sys.executable, "-c", MAIN, "--layers", str(SIZES[size].layers), "--builds", str(builds)]
    return measure([*command, *paths])


def needed(size: str, experts: int) -> int:
    """Bytes of base and experts, as they are stored, and of one model in float32."""
    return SIZES[size].parameters * ((1 + experts) * BFLOAT16 + FLOAT32)


def main(options: Sequence[str] | None = None) -> None:
    """Build candidates, and end."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("models", nargs="+", type=Path, help="the base, then the experts")
    parser.add_argument("--layers", type=int, required=True)
    parser.add_argument("--builds", type=int, default=3)
    chosen = parser.parse_args(options)
    base, *experts = chosen.models
    first, *others = candidates(Models(base, tuple(experts)), chosen.layers, chosen.builds)
    live = LiveMerge(first)
    for recipe in (first, *others):
        live.build(recipe)
