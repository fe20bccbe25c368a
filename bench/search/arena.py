"""One search on one suite: what it claims, what it found, what it cost.

    python -m bench.search.arena SUITES --suite languages --entry default --budgets 24000 48000 --seeds 0 1 2

Every entry gets the same items and the same budget of item evaluations, confirmation included; the winner is
asked the sealed test items once, and that is outside the budget for all. No algorithm knows its budget, so
one search of the largest gives the results of all smaller ones: each is what had been tried by then, and a
confirmation of its own.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path

from bench.records import Records
from bench.search.entries import ENTRIES, recipe_of
from bench.search.suite import Suite
from mergery.evolve import SearchSpec
from mergery.evolve.home import Home
from mergery.evolve.opening import Search
from mergery.evolve.run import choose
from mergery.evolve.session import Session
from mergery.evolve.trial import Trial


@dataclass(frozen=True)
class Bout:
    """One search's result.

    ``searched`` is the best score as the search saw it, ``claimed`` what it claims (with an interval where it
    has one), ``test`` what that recipe scores on the sealed items, ``origin`` what proposed it.
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
    origin: str


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


def fight(suite: Suite, entry: str, *, seed: int, budgets: Sequence[int], items: int = 400) -> Iterator[Bout]:
    """Run one search, and ask its winner at each budget the sealed items."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw(suite, folder, seed=seed, items=items)
        checked = Search.open(spec_of(suite, entry, folder, seed=seed, budget=max(budgets)))
        with Session(checked, Home(folder / "out"), device="cpu") as session:
            trials = session.search()
            for budget in sorted(budgets):
                session.checked = of_budget(checked, budget)
                begun = until(trials, budget - session.checked.reserve, len(checked.exam))
                if begun:
                    yield result(suite, entry, session, begun, seed=seed, budget=budget, items=items)


def of_budget(checked: Search, budget: int) -> Search:
    """The same search with another budget."""
    return replace(checked, spec=replace(checked.spec, search=replace(checked.spec.search, budget=budget)))


def until(trials: Sequence[Trial], budget: int, price: int) -> tuple[Trial, ...]:
    """The trials that a search of a smaller budget would have had."""
    spent, begun = 0, []
    for trial in trials:
        if budget - spent < max(price, trial.cost):
            break
        begun.append(trial)
        spent += trial.cost
    return tuple(begun)


def result(
    suite: Suite,
    entry: str,
    session: Session,
    trials: tuple[Trial, ...],
    *,
    seed: int,
    budget: int,
    items: int,
) -> Bout:
    """What a search claims after these trials, and what that is worth."""
    begin = time.perf_counter()
    best, confirmed = choose(session, trials)
    seconds = time.perf_counter() - begin
    test = session.checked.test
    outcomes = session.examine(test).examine(session.checked.candidate(best)).outcomes
    claim = confirmed.claim if confirmed else None
    assert best.score is not None
    overhead = sum(trial.overhead_seconds for trial in trials)
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
        test.score(outcomes),
        len(trials),
        sum(trial.cost for trial in trials) + (confirmed.cost if confirmed else 0),
        seconds + overhead + sum(trial.build_seconds + trial.score_seconds for trial in trials),
        overhead,
        best.origin,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--suite", nargs="+", required=True)
    parser.add_argument("--entry", nargs="+", required=True)
    parser.add_argument("--budgets", type=int, nargs="+", default=[24000])
    parser.add_argument("--items", type=int, nargs="+", default=[400])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--records", type=Path, help="append to this file; what it holds is not done again")
    options = parser.parse_args()
    records = Records(options.records) if options.records else None
    for seed, name, entry, items in product(options.seeds, options.suite, options.entry, options.items):
        suite = Suite.open(options.directory / name)
        run(suite, entry, options.budgets, seed=seed, items=items, records=records)


def run(
    suite: Suite,
    entry: str,
    budgets: Sequence[int],
    *,
    seed: int,
    items: int = 400,
    records: Records | None = None,
) -> None:
    """Run one search unless it is on record, print its results, and put them on record."""
    place = {"suite": suite.name, "entry": entry, "seed": seed, "items": items}
    if records and all(records.of(**place, budget=budget) for budget in budgets):
        return
    for bout in fight(suite, entry, seed=seed, budgets=budgets, items=items):
        print(json.dumps(asdict(bout)), flush=True)
        if records:
            records.note(**asdict(bout))


if __name__ == "__main__":
    main()
