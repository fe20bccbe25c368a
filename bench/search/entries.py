"""The contestants: each its own way of writing recipes as numbers, and its own algorithm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from bench.search.suite import Suite


@dataclass(frozen=True)
class Entry:
    """How one contestant searches.

    ``method`` and ``knobs`` say the genome, ``search`` the algorithm; ``confirm`` whether finalists are asked
    fresh items, which only ours do.
    """

    search: Mapping[str, object]
    method: str | Mapping[str, object] = "task_arithmetic"
    knobs: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    confirm: bool = False


WEIGHTS = {"weight": {"search": True}}
BLOCKS = {"weight": {"search": True, "by": "block"}}
BOTH = {"search": ["task_arithmetic", "dare_ties"]}
DARE_TIES = {"weight": {"search": [0.0, 1.0], "start": 0.5}, "density": {"search": [0.0, 1.0], "start": 0.5}}
# mergekit-evolve with a group for each layer: weights from 1/K, densities from 1
MERGEKIT = {
    "weight": {"search": [0.0, 1.0], "start": "1/K", "by": "layer"},
    "density": {"search": [0.0, 1.0], "start": 1.0, "by": "layer"},
}

ENTRIES: Mapping[str, Entry] = {
    "default": Entry({"algorithm": "staged"}, BOTH, BLOCKS, confirm=True),
    "default, 20 items": Entry({"algorithm": "staged", "items": 20}, BOTH, BLOCKS, confirm=True),
    "default, black box": Entry({"algorithm": "staged", "gradients": False}, BOTH, BLOCKS, confirm=True),
    "default, task arithmetic": Entry({"algorithm": "staged"}, knobs=BLOCKS, confirm=True),
    # Akiba et al.: DARE-TIES, two numbers a model, CMA-ES from 0.5 with sigma 1/6, the best training score
    "paper": Entry({"algorithm": "cma-es"}, "dare_ties", DARE_TIES),
    "mergekit-evolve": Entry({"algorithm": "cma-es"}, "dare_ties", MERGEKIT),
    "random": Entry({"algorithm": "random"}, "dare_ties", DARE_TIES),
    "ga": Entry({"algorithm": "ga"}, "dare_ties", DARE_TIES),
    "tpe": Entry({"algorithm": "tpe"}, "dare_ties", DARE_TIES),
    "gp": Entry({"algorithm": "gp"}, "dare_ties", DARE_TIES),
    "random, task arithmetic": Entry({"algorithm": "random"}, knobs=WEIGHTS),
    "cma-es, task arithmetic": Entry({"algorithm": "cma-es"}, knobs=WEIGHTS),
    "tpe, task arithmetic": Entry({"algorithm": "tpe"}, knobs=WEIGHTS),
    "gp, task arithmetic": Entry({"algorithm": "gp"}, knobs=WEIGHTS),
}


def recipe_of(suite: Suite, entry: Entry) -> dict[str, object]:
    """An entry's genome, on a suite's models."""
    share = round(1 / len(suite.experts), 3)
    knobs = {
        name: {key: share if value == "1/K" else value for key, value in knob.items()}
        for name, knob in entry.knobs.items()
    }
    models = [{"model": str(suite.model(name)), "parameters": knobs} for name in suite.experts]
    return {"merge_method": entry.method, "base_model": str(suite.model(suite.base)), "models": models}
