"""A tiny real family, items, and a search on them."""

from __future__ import annotations

import os

import pytest

from unit.evolve.formulas import write_items


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


@pytest.fixture
def no_waiting_for_the_disk(monkeypatch):
    """Thousands of small writes; only a power cut would lose what the system still holds in memory."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
