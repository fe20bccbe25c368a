"""How many layers candidates run that begin alike, and that their outputs do not change by it."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import torch

from bench.records import Records
from mergery.checkpoint import ModelRef
from mergery.evolve.paths import AlignedEncoding, LivePaths
from mergery.evolve.paths import Path as Hops

ACCEPTED = 0.05
"""Share of the candidates that become the one which others are varied from."""


@dataclass(frozen=True)
class Sharing:
    """One local search, run with kept states and without.

    ``done`` and ``without`` count layers run on a batch; ``identical`` is how many of ``passes`` gave the
    same logits bit for bit.
    """

    models: str
    slots: int
    seed: int
    candidates: int
    done: int
    without: int
    passes: int
    identical: int
    seconds: float
    seconds_without: float


def local_search(encoding: AlignedEncoding, *, seed: int, candidates: int) -> list[Hops]:
    """Candidates that change the layer or the gain of one slot; a few become what others are varied from."""
    dice, slots = Random(seed), encoding.depths[0]
    incumbent: list[float | str] = [*["model 0"] * slots, *[1.0] * slots]
    paths = []
    while len(paths) < candidates:
        changed, at = list(incumbent), dice.randrange(2 * slots)
        if at < slots:
            changed[at] = dice.choice([word for word in encoding.choices if word != changed[at]])
        else:
            changed[at] = round(dice.uniform(0.4, 1.5), 3)
        if all(word == "skip" for word in changed[:slots]):
            continue
        paths.append(encoding.path(changed))
        if dice.random() < ACCEPTED:
            incumbent = changed
    return paths


def measure(
    name: str, models: Sequence[Path], batches: Sequence[torch.Tensor], *, seed: int, candidates: int
) -> Sharing:
    """Run one local search both ways."""
    refs = [ModelRef(str(model)) for model in models]
    sharing, plain = LivePaths(refs), LivePaths(refs, state_bytes=0)
    encoding = AlignedEncoding(sharing.depths)
    seconds, identical = {sharing: 0.0, plain: 0.0}, 0
    for path in local_search(encoding, seed=seed, candidates=candidates):
        logits = {}
        for live in (sharing, plain):
            begin = time.perf_counter()
            model = live.build(path)
            with torch.inference_mode():
                logits[live] = [model(input_ids=ids, use_cache=False).logits for ids in batches]
            seconds[live] += time.perf_counter() - begin
        identical += sum(map(torch.equal, logits[sharing], logits[plain]))
    return Sharing(
        name,
        encoding.depths[0],
        seed,
        candidates,
        sharing.forwards.done,
        plain.forwards.done,
        candidates * len(batches),
        identical,
        seconds[sharing],
        seconds[plain],
    )


def run(
    name: str,
    models: Sequence[Path],
    batches: Sequence[torch.Tensor],
    *,
    seed: int,
    candidates: int,
    records: Records,
) -> None:
    """Run one local search unless it is on record."""
    if not records.of(models=name, seed=seed, candidates=candidates):
        found = measure(name, models, batches, seed=seed, candidates=candidates)
        print(json.dumps(asdict(found)), flush=True)
        records.note(**asdict(found))
