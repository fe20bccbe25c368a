"""Path space, measured: ``python -m bench paths`` runs what is missing and writes the page.

Records are appended as runs end, so it may be stopped and goes on where it was; ``--page`` only writes the
page of what is there.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir

import torch
from transformers.utils.logging import disable_progress_bar

from bench.page import RESULTS, write
from bench.paths import encodings, gain, sharing, tables, written
from bench.records import Records
from bench.search.suite import Suite
from bench.search.suites import build_suites
from mergery.threads import torch_threads

DEEP = {"layers": 32, "hidden_size": 128, "intermediate_size": 256}
"""As many layers as models have that people merge."""
TOKENS = (100, 100)
CANDIDATES = 100
PATHS = 2


def main(options: Sequence[str] | None = None) -> None:
    """Run what is missing, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m bench paths", description=__doc__)
    parser.add_argument("--work", type=Path, default=Path(gettempdir()) / "mergery-bench")
    parser.add_argument("--zoo", type=Path, help="an existing zoo, instead of training one")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)))
    parser.add_argument("--parts", nargs="+", choices=tuple(PARTS), default=list(PARTS))
    parser.add_argument("--suites", nargs="+", default=list(tables.SUITES), help="of the part gain")
    parser.add_argument("--page", action="store_true", help="only write the page")
    parser.add_argument("--results", type=Path, default=RESULTS)
    chosen = parser.parse_args(options)
    records = {part: Records(chosen.work / "paths" / f"{part}.jsonl") for part in PARTS}
    if not chosen.page:
        disable_progress_bar()
        suites = build_suites(chosen.work / "suites", names=tables.SUITES, zoo=chosen.zoo)
        with torch_threads(1):
            for seed in chosen.seeds:
                for part in chosen.parts:
                    asked = chosen.suites if part == "gain" else tables.SUITES
                    PARTS[part]({name: suites[name] for name in asked}, seed, records[part])
    write("paths", "Path space", tables.page(records), folder=chosen.results)


def gains(suites: Mapping[str, Suite], seed: int, records: Records) -> None:
    """Weights and a path against weights alone."""
    for suite in suites.values():
        steps = seed in tables.THOROUGH
        gain.run(
            suite,
            tables.MORE if steps else tables.AFTER,
            seed=seed,
            first=tables.FIRST,
            total=tables.TOTAL,
            records=records,
            steps=steps,
        )


def riddles(suites: Mapping[str, Suite], seed: int, records: Records) -> None:
    """Planted optima, and both encodings on them."""
    names, entries = tuple(encodings.DAMAGES), tuple(encodings.ENTRIES)
    encodings.run(suites["algorithms"], names, entries, seed=seed, counts=tables.COUNTS, records=records)


def stock(suites: Mapping[str, Suite], seed: int, records: Records) -> None:
    """Random paths, written as stock models; a few for each seed."""
    generator = torch.Generator().manual_seed(seed)
    suite = suites["algorithms"]
    with TemporaryDirectory() as folder:
        for kind in (*written.KINDS, *written.TRAINED):
            models = (
                [suite.model(expert) for expert in suite.experts[:2]]
                if kind in written.TRAINED
                else [
                    _random(suite, kind, Path(folder) / f"{kind} {at}", seed=2 * seed + at) for at in (0, 1)
                ]
            )
            for path in range(PATHS):
                ids = torch.randint(3, 56, TOKENS, generator=generator)
                written.run(kind, models, ids, seed=PATHS * seed + path, records=records)


def shared(suites: Mapping[str, Suite], seed: int, records: Records) -> None:
    """Local searches through experts of the suites, and through 32 layers."""
    generator = torch.Generator().manual_seed(seed)
    batches = [torch.randint(3, 56, shape, generator=generator) for shape in ((32, 12), (20, 17))]
    for name in ("algorithms", "languages"):
        models = [suites[name].model(expert) for expert in suites[name].experts[:2]]
        sharing.run(name, models, batches, seed=seed, candidates=CANDIDATES, records=records)
    with TemporaryDirectory() as folder:
        models = [
            _random(suites["algorithms"], "Llama", Path(folder) / str(at), seed=2 * seed + at, **DEEP)
            for at in (0, 1)
        ]
        sharing.run("random Llamas", models, batches, seed=seed, candidates=CANDIDATES, records=records)


def _random(suite: Suite, kind: str, folder: Path, *, seed: int, layers: int = 4, **changes: object) -> Path:
    """A random model with a suite's tokenizer, without which nothing is written."""
    written.random_model(kind, folder, layers=layers, seed=seed, **changes)
    for file in suite.model(suite.base).glob("tokenizer*"):
        shutil.copy(file, folder)
    return folder


PARTS: Mapping[str, Callable[[Mapping[str, Suite], int, Records], None]] = {
    "gain": gains,
    "riddles": riddles,
    "written": stock,
    "sharing": shared,
}
"""What may be measured: for each seed, in this order."""
