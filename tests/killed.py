"""A real search as a command: written, started, killed, and its record read."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import yaml

WORDS = "the cat dog bird sees has takes one two three four five".split()  # noqa: SIM905


def write_search(make_model: Callable[..., Path], tmp_path: Path, **settings: object) -> Path:
    """A search of two experts of a tiny base, in ten numbers each."""
    dice = random.Random(5)
    for name, count in (("validation", 200), ("test", 40)):
        prompts = dict.fromkeys(" ".join(dice.choice(WORDS) for _ in range(12)) for _ in range(count))
        items = [{"prompt": prompt, "answer": " " + dice.choice(WORDS)} for prompt in prompts]
        text = "".join(json.dumps(item) + "\n" for item in items)
        (tmp_path / f"{name}.jsonl").write_text(text)
    knob = {"search": [-0.5, 2.0], "by": "block"}
    models = [
        {"model": str(make_model(name, seed, near=0)), "parameters": {"weight": knob}}
        for name, seed in (("one", 1), ("two", 2))
    ]
    data = {
        "recipe": {
            "merge_method": "task_arithmetic",
            "base_model": str(make_model("base")),
            "models": models,
        },
        "search": {"seed": 4, **settings},
        "task": {
            "evaluator": "likelihood",
            "validation": str(tmp_path / "validation.jsonl"),
            "test": str(tmp_path / "test.jsonl"),
        },
    }
    path = tmp_path / "search.yml"
    path.write_text(yaml.safe_dump(data))
    return path


def start(search: Path, out: Path) -> subprocess.Popen[str]:
    code = "from mergery.cli import main; main()"
    command = [sys.executable, "-c", code, "evolve", str(search), str(out)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def lines_in(out: Path) -> list[dict[str, object]]:
    """The journal's whole lines."""
    journal = out / "study" / "journal.log"
    whole = journal.read_bytes().split(b"\n")[:-1] if journal.exists() else []
    return [json.loads(line) for line in whole]


def trials_in(out: Path) -> list[tuple[object, ...]]:
    """What was tried and what came of it, trial by trial; those that have ended."""
    lines = lines_in(out)
    asked = [(line["params"], line["user_attrs"]["recipe"]) for line in lines if line["op_code"] == 4]
    told = {line["trial_id"]: line["user_attr"]["told"] for line in lines if line["op_code"] == 8}
    ended = [line["trial_id"] for line in lines if line["op_code"] == 6]
    return [(*asked[trial], *(told[trial][key] for key in ("score", "items", "told"))) for trial in ended]


def wait_for(condition, process: subprocess.Popen[str]) -> None:
    while process.poll() is None and not condition():
        time.sleep(0.001)
