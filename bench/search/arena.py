"""One search on one suite: what it claims, what it found, what it cost.

    python -m bench.search.arena SUITES-DIR --suite languages --entry default --budget 24000 --seeds 0 1 2

Every entry gets the same items and the same budget of item evaluations, confirmation included; the winner is
asked the sealed test items once, and that is outside the budget for all.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

from bench.search.entries import ENTRIES, recipe_of
from bench.search.suite import Suite
from mergery.evolve import SearchSpec
from mergery.evolve.home import Home
from mergery.evolve.opening import Search
from mergery.evolve.run import choose
from mergery.evolve.session import Session


@dataclass(frozen=True)
class Bout:
    """One search's result.

    ``searched`` is the best score as the search saw it, ``claimed`` what it claims (with an interval where it
    has one), ``test`` what that recipe scores on the sealed items.
    """

    suite: str
    entry: str
    seed: int
    budget: int
    items: int
    searched: float
    claimed: float
    low: float | None
    high: float | None
    test: float
    trials: int
    spent: int
    seconds: float
    overhead: float


def draw(suite: Suite, folder: Path, *, seed: int, items: int) -> None:
    """Write a seed's own items to search on, and its own to confirm on: another draw from the same pool."""
    for task in suite.tasks:
        pool = [
            line
            for split in ("search", "confirm")
            for line in suite.file(task, split).read_text().splitlines()
        ]
        random.Random(f"{task} {seed}").shuffle(pool)
        count = items // len(suite.tasks)
        (folder / f"{task}.search.jsonl").write_text("\n".join(pool[:count]))
        (folder / f"{task}.confirm.jsonl").write_text("\n".join(pool[-suite.share("confirm") :]))


def spec_of(suite: Suite, entry: str, folder: Path, *, seed: int, budget: int) -> SearchSpec:
    """The search file of one bout."""
    settings = ENTRIES[entry]
    tasks = {
        task: {
            "validation": str(folder / f"{task}.search.jsonl"),
            "confirm": str(folder / f"{task}.confirm.jsonl") if settings.confirm else 0,
            "test": str(suite.file(task, "test")),
        }
        for task in suite.tasks
    }
    search = {"seed": seed, "budget": budget, **settings.search}
    return SearchSpec.from_dict({"recipe": recipe_of(suite, settings), "search": search, "tasks": tasks})


def fight(suite: Suite, entry: str, *, seed: int, budget: int, items: int = 400) -> Bout:
    """Run one search, and ask its winner the sealed items."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw(suite, folder, seed=seed, items=items)
        begin = time.perf_counter()
        checked = Search.open(spec_of(suite, entry, folder, seed=seed, budget=budget))
        with Session(checked, Home(folder / "out"), device="cpu") as session:
            trials = session.search()
            best, confirmed = choose(session, trials)
            seconds = time.perf_counter() - begin
            outcomes = session.examine(checked.test).examine(checked.candidate(best)).outcomes
    claim = confirmed.claim if confirmed else None
    assert best.score is not None
    return Bout(
        suite.name,
        entry,
        seed,
        budget,
        items,
        best.score,
        claim.estimate if claim else best.score,
        claim.low if claim else None,
        claim.high if claim else None,
        checked.test.score(outcomes),
        len(trials),
        sum(trial.cost for trial in trials) + (confirmed.cost if confirmed else 0),
        seconds,
        sum(trial.overhead_seconds for trial in trials),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--suite", nargs="+", required=True)
    parser.add_argument("--entry", nargs="+", required=True)
    parser.add_argument("--budget", type=int, nargs="+", default=[24000])
    parser.add_argument("--items", type=int, nargs="+", default=[400])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--records", type=Path)
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        for budget in arguments.budget:
            for name in arguments.suite:
                suite = Suite.open(arguments.directory / name)
                for entry, items in product(arguments.entry, arguments.items):
                    bout = fight(suite, entry, seed=seed, budget=budget, items=items)
                    line = json.dumps(asdict(bout))
                    print(line, flush=True)
                    if arguments.records:
                        with arguments.records.open("a", encoding="utf-8") as file:
                            file.write(line + "\n")


if __name__ == "__main__":
    main()
