"""Zoos of three seeds, trained from nothing, and the demo on each: does the effect hold for all?"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.demo import run, scores
from bench.page import table, write
from mergery.zoo import build

SEEDS = (0, 1, 2)


def main(options: Sequence[str] = ()) -> None:
    """Train, search and score each zoo."""
    argparse.ArgumentParser(prog="python -m bench zoo").parse_args(options)
    tables, seconds = [], []
    for seed in SEEDS:
        with tempfile.TemporaryDirectory() as folder:
            begin = time.perf_counter()
            zoo = build(Path(folder) / "zoo", seed=seed)
            seconds.append(time.perf_counter() - begin)
            one, _ = run("--zoo", str(zoo.directory))
            tables.append(one)
    lines = [
        f"`mergery zoo build ZOO --seed S`, then `mergery demo --zoo ZOO`: right answers in % of "
        f"{tables[0]['evolved']['items']} held-out items (95 % Wilson interval).",
        "",
        *table(("model", "kind", *(f"zoo {seed}" for seed in SEEDS)), scores(tables)),
        "",
        f"Training the whole zoo: {', '.join(f'{took:.0f} s' for took in seconds)}.",
    ]
    write("zoo", "Zoos of three seeds", lines)
