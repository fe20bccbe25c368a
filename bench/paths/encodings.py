"""Path searches against each other: the paper's encoding and the aligned one, on models taken to pieces.

Every search begins at the donor and asks every candidate all items; what is found is judged on sealed ones.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from random import Random

import numpy as np
from transformers import PreTrainedModel

from bench.paths.planted import DAMAGES, assemble
from bench.records import Records
from bench.search.suite import Suite
from mergery.checkpoint import ModelRef
from mergery.errors import RecipeError
from mergery.evaluate import Items, Scorer, get_evaluator, load_items
from mergery.evaluate.api import context_of
from mergery.evolve.algorithms import AlgorithmSettings, Outcome, get_algorithm
from mergery.evolve.paths import AlignedEncoding, Encoding, LivePaths, PaperEncoding
from mergery.evolve.paths import Path as Hops

PAPER, STAGED, CAT = "paper", "staged", "cat-cma"
ENTRIES: Mapping[str, tuple[type[PaperEncoding | AlignedEncoding], str]] = {
    PAPER: (PaperEncoding, "cma-es"),
    STAGED: (AlignedEncoding, "staged"),
    CAT: (AlignedEncoding, "cat-cma"),
}
"""The paper's search, and the aligned encoding searched by two algorithms: the default, and CatCMA."""
ITEMS, TESTS = 50, 600
RECOVERED = 0.95
"""Of the whole model's score on the search's items."""
HARM = 0.5
"""Damages are drawn until the donor's score is below this share of the whole model's, or so many times:"""
DRAWS = 20


@dataclass(frozen=True, eq=False)
class Riddle:
    """Models whose layers are to be strung together, the model that they were, and what asks them."""

    live: LivePaths
    whole: PreTrainedModel
    search: Scorer
    test: Scorer


@dataclass(frozen=True)
class Found:
    """What one search has found after some candidates, each of which was asked ``items``.

    Scores on sealed items: ``whole`` before the model was taken to pieces, ``broken`` of the donor as the
    search gets it, ``test`` of what was found. ``needed`` is how many candidates it took to the share
    ``RECOVERED`` of the whole model's score on the search's items, ``hops`` how long the path is, ``shared``
    which share of the layers were not run as candidates began alike.
    """

    suite: str
    riddle: str
    entry: str
    seed: int
    candidates: int
    items: int
    searched: float
    test: float
    broken: float
    whole: float
    needed: int | None
    hops: int
    shared: float


def riddle(suite: Suite, name: str, folder: Path, seed: int) -> Riddle:
    """A riddle of a suite: an expert in pieces and its task; the tasks of all, if none has its name."""
    expert = suite.experts[seed % len(suite.experts)]
    whole = _live([suite.model(expert)])
    tasks = [task for task in suite.tasks if task == expert] or suite.tasks
    asked, test = _scorers(suite, tasks, whole, seed)
    dice, limit = Random(f"{name} {seed}"), HARM * asked.score(whole.donor).value
    for draw in range(DRAWS):
        pieces = DAMAGES[name](whole.depths[0], dice)
        live = _live(
            [assemble(suite.model(expert), folder / f"{draw} {at}", one) for at, one in enumerate(pieces)]
        )
        if asked.score(live.donor).value < limit:
            break
    return Riddle(live, whole.donor, asked, test)


def _live(models: Sequence[Path]) -> LivePaths:
    return LivePaths([ModelRef(str(model)) for model in models])


def _scorers(suite: Suite, tasks: Sequence[str], live: LivePaths, seed: int) -> list[Scorer]:
    """Who asks items to search on, and who asks sealed ones."""
    return [
        get_evaluator("exact_match").prepare(live.tokenizer, asked, context=context_of(live.donor))
        for asked in _asked(suite, tasks, seed)
    ]


def _asked(suite: Suite, tasks: Sequence[str], seed: int) -> tuple[Items, Items]:
    """Items to search on, drawn by the seed, and sealed ones, of each task an equal share."""
    chosen, sealed = [], []
    for task in tasks:
        pool = [item for split in ("search", "confirm") for item in load_items(suite.file(task, split))]
        chosen += Random(f"{task} {seed}").sample(pool, min(len(pool), ITEMS // len(tasks)))
        sealed += load_items(suite.file(task, "test")).entries[: TESTS // len(tasks)]
    return Items("search", tuple(chosen)), Items("test", tuple(sealed))


@dataclass(frozen=True)
class Tried:
    """One candidate; ``None`` for what could not be run."""

    path: Hops
    score: float


def search(
    live: LivePaths, encoding: Encoding, algorithm: str, scorer: Scorer, *, seed: int, candidates: int
) -> list[Tried | None]:
    """Ask, score and tell, that many times."""
    run = get_algorithm(algorithm).start(encoding.problem, AlgorithmSettings(seed))
    tried: list[Tried | None] = []
    for _ in range(candidates):
        (proposal,) = run.ask()
        one = _score(live, encoding, scorer, proposal.point)
        run.tell(proposal, one[1])
        tried.append(one[0])
    return tried


def _score(
    live: LivePaths, encoding: Encoding, scorer: Scorer, point: Sequence[float]
) -> tuple[Tried | None, Outcome]:
    try:
        path = encoding.path(encoding.genome(tuple(point)))
        scores = scorer.score(live.build(path))
    except RecipeError:
        return None, Outcome((math.inf,))
    if not np.isfinite(scores.outcomes).all():
        return None, Outcome((math.inf,))
    smooth = math.nan if scores.smooth is None else float(scores.smooth.mean(dtype=np.float64))
    return Tried(path, scores.value), Outcome((-scores.value,), -scores.outcomes, smooth)


def best_of(tried: Sequence[Tried | None]) -> Tried | None:
    """The best candidate, the earliest of equals."""
    return max((one for one in tried if one), key=lambda one: one.score, default=None)


def needed(tried: Sequence[Tried | None], goal: float) -> int | None:
    """How many candidates it took to a score."""
    scores = (one.score if one else -math.inf for one in tried)
    return next((number for number, score in enumerate(scores, 1) if score >= goal), None)


def contest(suite: Suite, name: str, entry: str, *, seed: int, counts: Sequence[int]) -> Iterator[Found]:
    """One search, and what it has found after so many candidates each."""
    with tempfile.TemporaryDirectory() as folder:
        asked = riddle(suite, name, Path(folder), seed)
    live, whole = asked.live, asked.whole
    make, algorithm = ENTRIES[entry]
    goal = RECOVERED * asked.search.score(whole).value
    tried = search(live, make(live.depths), algorithm, asked.search, seed=seed, candidates=max(counts))
    shared = live.forwards.share_saved
    for count in counts:
        best = best_of(tried[:count])
        if best is not None:
            yield Found(
                suite.name,
                name,
                entry,
                seed,
                count,
                ITEMS,
                best.score,
                asked.test.score(live.build(best.path)).value,
                asked.test.score(live.donor).value,
                asked.test.score(whole).value,
                needed(tried, goal),
                len(best.path),
                shared,
            )


def run(
    suite: Suite,
    names: Sequence[str],
    entries: Sequence[str],
    *,
    seed: int,
    counts: Sequence[int],
    records: Records,
) -> None:
    """Run one seed of these riddles, but for what is on record."""
    for name, entry in product(names, entries):
        place = {"suite": suite.name, "riddle": name, "entry": entry, "seed": seed}
        if records.of(**place, candidates=counts[-1]):
            continue
        for found in contest(suite, name, entry, seed=seed, counts=counts):
            print(json.dumps(asdict(found)), flush=True)
            records.note(**asdict(found))
