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
    method: str = "task_arithmetic"
    knobs: Mapping[str, object] = field(default_factory=dict)
    confirm: bool = False


WEIGHTS = {"weight": {"search": True}}
BLOCKS = {"weight": {"search": True, "by": "block"}}
LAYERS = {"weight": {"search": True, "by": "layer"}}
ROLES = {"weight": {"search": True, "by": "role"}}
DARE_TIES = {"weight": {"search": [0.0, 1.0], "start": 0.5}, "density": {"search": [0.0, 1.0], "start": 0.5}}

ENTRIES: Mapping[str, Entry] = {
    "default": Entry({"algorithm": "staged"}, knobs=BLOCKS, confirm=True),
    "default, black box": Entry({"algorithm": "staged", "gradients": False}, knobs=BLOCKS, confirm=True),
    "gradient": Entry({"algorithm": "gradient", "racing": True}, knobs=BLOCKS, confirm=True),
    "gradient, roles": Entry({"algorithm": "gradient", "racing": True}, knobs=ROLES, confirm=True),
    "gradient, layers": Entry({"algorithm": "gradient", "racing": True}, knobs=LAYERS, confirm=True),
    # Akiba et al.: DARE-TIES, two numbers a model, CMA-ES from 0.5 with sigma 1/6, the best training score
    "paper": Entry({"algorithm": "cma-es"}, "dare_ties", DARE_TIES),
    "paper, task arithmetic": Entry({"algorithm": "cma-es"}, knobs=WEIGHTS),
    "cma-es, blocks": Entry({"algorithm": "cma-es"}, knobs=BLOCKS),
    "random": Entry({"algorithm": "random"}, knobs=WEIGHTS),
    "ga": Entry({"algorithm": "ga"}, knobs=WEIGHTS),
    "tpe": Entry({"algorithm": "tpe"}, knobs=WEIGHTS),
    "gp": Entry({"algorithm": "gp"}, knobs=WEIGHTS),
}


def recipe_of(suite: Suite, entry: Entry) -> dict[str, object]:
    """An entry's genome, on a suite's models."""
    models = [{"model": str(suite.model(name)), "parameters": dict(entry.knobs)} for name in suite.experts]
    return {"merge_method": entry.method, "base_model": str(suite.model(suite.base)), "models": models}
