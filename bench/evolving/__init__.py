"""What a search costs: ``python -m bench evolving`` measures it and writes the page.

Records are appended as measurements end, so it may be stopped and goes on where it was; ``--page`` only
writes the page of what is there.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from itertools import product
from pathlib import Path

from bench import models
from bench.evolving import construction, forecasts, overhead, workers
from bench.evolving.costs import lines
from bench.evolving.family import Shape, make_family
from bench.page import RESULTS, write
from bench.records import Records
from bench.search.suites import build_suites

__all__ = ["main"]

PARTS = ("overhead", "construction", "memory", "workers", "forecast")


def main(options: Sequence[str] = ()) -> None:
    """Measure what is missing, and write the page."""
    arguments = parse(options)
    records = Records(arguments.work / "evolving.jsonl", fresh=arguments.fresh)
    if not arguments.page:
        for part in arguments.parts:
            MEASURES[part](arguments, records)
    write("evolving", "What a search costs", lines(records), options=options, folder=arguments.results)


def parse(options: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench evolving", description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    searches = list(overhead.SEARCHES)
    parser.add_argument("--searches", nargs="+", choices=searches, default=searches, help="of the overhead")
    parser.add_argument("--size", choices=models.SIZES, default="0.5b", help="of constructed candidates")
    parser.add_argument("--slots", type=int, nargs="+", default=[4, 8], help="workers at a time")
    parser.add_argument("--suites", nargs="+", default=["formats", "languages"], help="of the forecasts")
    parser.add_argument("--entries", nargs="+", default=["default", "paper"])
    parser.add_argument("--budgets", nargs="+", type=int, default=[6000])
    parser.add_argument("--repeat", type=int, default=5, help="of constructions")
    parser.add_argument("--rounds", type=int, default=3, help="of forecasts")
    parser.add_argument("--work", type=Path, default=models.DEFAULT_WORK, help="folder of models and records")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the page")
    parser.add_argument("--fresh", action="store_true", help="put earlier records aside")
    parser.add_argument("--page", action="store_true", help="measure nothing, write the page")
    return parser.parse_args(options)


def _overhead(arguments: argparse.Namespace, records: Records) -> None:
    """Searches on models of 30 million parameters."""
    family = make_family(arguments.work / "models" / "evolving-30m", Shape())
    for name in arguments.searches:
        budget = overhead.BUDGETS[name]
        place = {"part": "overhead", "search": name, "budget": budget}
        if not records.of(**place):
            spent = overhead.spend(overhead.spec_of(family, name, budget=budget))
            records.note(**place, **asdict(spent))


def _construction(arguments: argparse.Namespace, records: Records) -> None:
    """One candidate in memory and through the disk."""
    place = {"part": "construction", "size": arguments.size}
    left = arguments.repeat - len(records.of(**place))
    if left > 0:
        made = models.make(arguments.work, arguments.size, construction.EXPERTS)
        layers = models.SIZES[arguments.size].layers
        for found in construction.compare(made, layers, arguments.work / "out", left):
            records.note(**place, **found)


def _memory(arguments: argparse.Namespace, records: Records) -> None:
    """A process that builds candidates."""
    place = {"part": "memory", "size": arguments.size}
    if not records.good(**place):
        made = models.make(arguments.work, arguments.size, construction.EXPERTS)
        records.add(construction.memory(made, arguments.size), 0.0, **place)


def _workers(arguments: argparse.Namespace, records: Records) -> None:
    """Studies whose workers sleep."""
    for slots in arguments.slots:
        if not records.of(part="workers", slots=slots):
            for algorithm, found in workers.keep_busy(slots):
                records.note(part="workers", slots=slots, algorithm=algorithm, **found)


def _forecast(arguments: argparse.Namespace, records: Records) -> None:
    """Dry runs beside the searches themselves."""
    suites = build_suites(arguments.work / "suites", names=arguments.suites)
    for number in range(arguments.rounds):
        for (name, suite), entry, budget in product(suites.items(), arguments.entries, arguments.budgets):
            place = {"part": "forecast", "suite": name, "entry": entry, "budget": budget, "round": number}
            if not records.of(**place):
                folder = arguments.work / "forecast"
                found = forecasts.pair(suite, entry, budget, folder, search_first=number % 2 == 1)
                records.note(**place, **asdict(found))


MEASURES = {
    "overhead": _overhead,
    "construction": _construction,
    "memory": _memory,
    "workers": _workers,
    "forecast": _forecast,
}
