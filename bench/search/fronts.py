"""Pareto fronts: the area that a search's front dominates on sealed items, two tasks its objectives.

python -m bench.search.fronts SUITES --suite algorithms --algorithm gp nsga2 --budgets 24000 --seeds 0 1 2
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path

from bench.records import Records
from bench.search.arena import draw, until
from bench.search.entries import WEIGHTS, Entry, recipe_of
from bench.search.suite import Suite
from mergery.evolve import SearchSpec
from mergery.evolve.algorithms.pareto import hypervolume
from mergery.evolve.front import front_of
from mergery.evolve.home import Home
from mergery.evolve.opening import Search
from mergery.evolve.session import Session


@dataclass(frozen=True)
class Volume:
    """The front of one search.

    ``searched`` is the share of the unit cube of right answers that it dominates on the search's items,
    ``test`` on the sealed ones; ``members`` how many recipes it has.
    """

    suite: str
    algorithm: str
    seed: int
    budget: int
    searched: float
    test: float
    members: int


def volumes(suite: Suite, algorithm: str, *, seed: int, budgets: Sequence[int]) -> Iterator[Volume]:
    """Run one search, and judge its front at each budget."""
    entry = Entry({"algorithm": algorithm}, knobs=WEIGHTS)
    suite = replace(suite, tasks=suite.tasks[:: len(suite.tasks) - 1])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw(suite, folder, seed=seed, items=400)
        tasks = {
            task: {
                "validation": str(folder / f"{task}.search.jsonl"),
                "confirm": 0,
                "test": str(suite.file(task, "test")),
            }
            for task in suite.tasks
        }
        search = {"seed": seed, "budget": max(budgets), "objectives": True, **entry.search}
        checked = Search.open(
            SearchSpec.from_dict({"recipe": recipe_of(suite, entry), "search": search, "tasks": tasks})
        )
        with Session(checked, Home(folder / "out"), device="cpu") as session:
            trials = session.search()
            judge = session.examine(checked.test)
            for budget in sorted(budgets):
                front = front_of(until(trials, budget, len(checked.exam)), checked.exam.directions)
                found = [
                    checked.test.means(judge.examine(checked.candidate(trial)).outcomes) for trial in front
                ]
                yield Volume(
                    suite.name,
                    algorithm,
                    seed,
                    budget,
                    dominated([trial.values for trial in front]),
                    dominated(found),
                    len(front),
                )


def dominated(scores: Sequence[Sequence[float]]) -> float:
    """Share of the unit cube below these scores."""
    return hypervolume([[1 - score for score in row] for row in scores], [1.0] * len(scores[0]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--suite", nargs="+", required=True)
    parser.add_argument("--algorithm", nargs="+", default=["gp", "nsga2"])
    parser.add_argument("--budgets", type=int, nargs="+", default=[24000, 48000])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--records", type=Path)
    options = parser.parse_args()
    records = Records(options.records) if options.records else None
    for seed, name, algorithm in product(options.seeds, options.suite, options.algorithm):
        run(Suite.open(options.directory / name), algorithm, options.budgets, seed=seed, records=records)


def run(
    suite: Suite, algorithm: str, budgets: Sequence[int], *, seed: int, records: Records | None = None
) -> None:
    """Run one search unless it is on record, print its fronts, and put them on record."""
    place = {"suite": suite.name, "algorithm": algorithm, "seed": seed}
    if records and all(records.of(**place, budget=budget) for budget in budgets):
        return
    for volume in volumes(suite, algorithm, seed=seed, budgets=budgets):
        print(json.dumps(asdict(volume)), flush=True)
        if records:
            records.note(**asdict(volume))


if __name__ == "__main__":
    main()
