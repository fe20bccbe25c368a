"""A tiny real family, items, and a search on them."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

WORDS = "the cat dog bird sees has takes one two three four five and or but a b c d . ?".split()  # noqa: SIM905


def write_items(path: Path, count: int, seed: int) -> Path:
    dice = random.Random(seed)
    seen: dict[str, str] = {}
    while len(seen) < count:
        seen[" ".join(dice.choice(WORDS) for _ in range(dice.randint(5, 9)))] = " " + dice.choice(WORDS[:6])
    path.write_text("".join(json.dumps({"prompt": p, "answer": a}) + "\n" for p, a in seen.items()))
    return path


@pytest.fixture
def search(make_model, tmp_path) -> dict[str, object]:
    """A search file's data; nothing is held back to confirm."""
    knob = {"search": [-0.5, 3.0], "start": 0.8}
    models = [
        {"model": str(make_model(name, seed, near=0)), "parameters": {"weight": knob | {"by": by}}}
        for name, seed, by in (("one", 1, "block"), ("two", 2, "model"))
    ]
    return {
        "recipe": {
            "merge_method": "task_arithmetic",
            "base_model": str(make_model("base")),
            "models": models,
        },
        "search": {"algorithm": "cma-es", "trials": 12, "population": 5, "sigma": 0.25, "seed": 3},
        "task": {
            "evaluator": "likelihood",
            "validation": str(write_items(tmp_path / "validation.jsonl", 20, 1)),
            "test": str(write_items(tmp_path / "test.jsonl", 30, 2)),
            "confirm": 0,
        },
    }
