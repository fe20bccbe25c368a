"""The demo from the command line: how long it takes, and what it finds with three seeds of the search."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.page import table, write

SEEDS = (0, 1, 2)


def run(*arguments: str) -> tuple[dict[str, dict[str, float]], float]:
    """The demo's table, and its seconds as a whole process."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "mergery", "demo", "--out", str(Path(folder) / "demo"), "--json"]
        begin = time.perf_counter()
        done = subprocess.run([*command, *arguments], stdout=subprocess.PIPE, text=True, check=True)
        return json.loads(done.stdout)["test"], time.perf_counter() - begin


def percent(row: dict[str, float]) -> str:
    """A score with its interval."""
    return f"{100 * row['score']:.1f} ({100 * row['low']:.1f}–{100 * row['high']:.1f})"


def scores(tables: list[dict[str, dict[str, float]]]) -> list[tuple[str, ...]]:
    """One row a model, one column a run."""
    return [
        (name, str(tables[0][name]["kind"]), *(percent(one[name]) for one in tables)) for name in tables[0]
    ]


def main(options: Sequence[str] = ()) -> None:
    """Run the demo once for each seed of the search."""
    argparse.ArgumentParser(prog="python -m bench demo").parse_args(options)
    runs = [run("--seed", str(seed)) for seed in SEEDS]
    tables = [one for one, _ in runs]
    items = tables[0]["evolved"]["items"]
    lines = [
        "`mergery demo --seed S` on the zoo that comes with the package: right answers in % of "
        f"{items} held-out items (95 % Wilson interval).",
        "",
        *table(("model", "kind", *(f"seed {seed}" for seed in SEEDS)), scores(tables)),
        "",
        f"Whole process: {', '.join(f'{seconds:.0f} s' for _, seconds in runs)}.",
    ]
    write("demo", "The demo", lines)
