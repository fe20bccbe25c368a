"""All contestants on all suites, many seeds: ``python -m bench search`` runs them and writes the page.

Records are appended as searches end, so it may be stopped and goes on where it was; ``--page`` only writes
the page of what is there.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path
from tempfile import gettempdir

from bench.page import RESULTS, table, write
from bench.records import Records
from bench.search import fronts
from bench.search.arena import run
from bench.search.standing import OURS, PAPER, Mean, Standing
from bench.search.suites import build_suites

SUITES = ("algorithms", "formats", "languages", "skills")
DISTRACTORS, CLEAN = "distractors", "languages"
FEW = "default, 20 items"
PEERS = ("mergekit-evolve", "random", "ga", "tpe", "gp")
BUDGETS = {OURS: (8000, 16000, 24000, 48000), PAPER: (8000, 24000, 48000, 80000), FEW: (8000, 16000, 24000)}
PEER_BUDGETS = (8000, 16000, 24000, 48000)
PARETO, FRONTS = "fronts", ("gp", "nsga2")
FRONT_SUITES = ("algorithms", "skills")
"""Of several tasks, and such that one number a model, as fronts are searched with, is right now and then."""

COMPARED = (24000, 48000)
GOAL = 80000
INTRODUCTION = """\
Right answers on 3,000 sealed items in %, mean over seeds with its 95 % interval (Student's t). Budgets in
item evaluations; 24,000 are 60 candidates × 400 items. The default's include its confirmation and, at
three for one, its gradients. What the entries are: `bench/search/entries.py`. All of them are run by
Mergery's own loop on the same items and seeds, one thread each; only the default confirms.""".splitlines()

AREAS = """\
The first and the last task of a suite, one weight of task arithmetic a model, no confirmation; the front that
each search has after so many item evaluations, asked the sealed items.
""".splitlines()
FEWER = """\
`search: {items: 20}`: each candidate is asked the same twenty items, and gradients are taken on all 400,
twenty at a time. The difference is paired by seed.
""".splitlines()


def main(options: Sequence[str] | None = None) -> None:
    """Run what is missing, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m bench search", description=__doc__)
    parser.add_argument("--work", type=Path, default=Path(gettempdir()) / "mergery-bench")
    parser.add_argument("--zoo", type=Path, help="an existing zoo, instead of training one")
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--entries", nargs="+", default=[OURS, PAPER, *PEERS, FEW, PARETO])
    parser.add_argument("--suites", nargs="+", default=[*SUITES, DISTRACTORS])
    parser.add_argument("--page", action="store_true", help="only write the page")
    parser.add_argument("--results", type=Path, default=RESULTS)
    chosen = parser.parse_args(options)
    bouts = Records(chosen.work / "search" / "bouts.jsonl")
    areas = Records(chosen.work / "search" / "fronts.jsonl")
    if not chosen.page:
        suites = build_suites(chosen.work / "suites", names=chosen.suites, zoo=chosen.zoo)
        for seed in chosen.seeds:
            for suite in suites.values():
                for entry in chosen.entries:
                    if entry == PARETO:
                        for algorithm in FRONTS if suite.name in FRONT_SUITES else ():
                            fronts.run(suite, algorithm, COMPARED, seed=seed, records=areas)
                    elif suite.name != DISTRACTORS or entry in (OURS, PAPER):
                        run(suite, entry, BUDGETS.get(entry, PEER_BUDGETS), seed=seed, records=bouts)
    lines = page(Standing.of(bouts), areas)
    write("search", "Searches against each other", lines, folder=chosen.results)


def page(standing: Standing, areas: Records) -> Iterator[str]:
    """The figures."""
    yield from INTRODUCTION
    for budget in COMPARED:
        yield from ("", f"## {budget:,} item evaluations", "")
        yield from table(("entry", *SUITES, "default's gain, mean of suites"), _quality(standing, budget))
    yield from ("", "## Budget to the quality of the paper's search at 80,000 item evaluations", "")
    yield from table(
        ("suite", "paper at 80,000", "default at 8,000", "at 16,000", "reached by"), _economy(standing)
    )
    yield from ("", "## Claimed less true score", "")
    header = ("entry", "24,000", "48,000", "intervals that hold the true score")
    yield from table(header, _honesty(standing))
    yield from ("", "## Twenty items a candidate", "", *FEWER, "")
    yield from table(("suite", "budget", "all 400", "20", "difference"), _fewer(standing))
    yield from ("", "## Eight experts of no use in the pool", "")
    yield from table(("entry", "budget", "without", "with"), _distractors(standing))
    yield from ("", "## Two objectives: the area below the front on the sealed items, of 100", "", *AREAS, "")
    yield from table(("suite", "budget", *FRONTS, "ratio of the means"), _fronts(areas))


def _quality(standing: Standing, budget: int) -> Iterator[tuple[object, ...]]:
    for entry in (OURS, PAPER, *PEERS):
        means = [standing.mean(suite, entry, budget) for suite in SUITES]
        if any(means):
            gain = "" if entry == OURS else standing.gain(SUITES, OURS, entry, budget) or ""
            yield (entry, *(f"{mean} (n {mean.count})" if mean else "–" for mean in means), gain)


def _economy(standing: Standing) -> Iterator[tuple[object, ...]]:
    for suite in SUITES:
        goal = standing.mean(suite, PAPER, GOAL)
        if goal is not None:
            early = [standing.mean(suite, OURS, budget) for budget in BUDGETS[OURS][:2]]
            found = standing.enough(suite, BUDGETS[OURS], goal.value)
            yield (suite, goal, *early, f"{found:,} ({found / GOAL:.0%})" if found else "not reached")


def _honesty(standing: Standing) -> Iterator[tuple[object, ...]]:
    for entry in (OURS, PAPER, *PEERS):
        if standing.mean(SUITES[0], entry, COMPARED[0]) is None:
            continue
        found = [standing.honesty(SUITES, entry, budget) for budget in COMPARED]
        shares = " and ".join(f"{share:.0%} of {count}" for _, share, count in found if share is not None)
        yield (entry, *(mean for mean, _, _ in found), shares or "it gives none")


def _fewer(standing: Standing) -> Iterator[tuple[object, ...]]:
    for budget in BUDGETS[FEW]:
        for suite in SUITES:
            means = [standing.mean(suite, entry, budget) for entry in (OURS, FEW)]
            if all(means):
                yield (suite, f"{budget:,}", *means, standing.gain((suite,), FEW, OURS, budget) or "")
        yield ("mean", f"{budget:,}", "", "", standing.gain(SUITES, FEW, OURS, budget) or "")


def _distractors(standing: Standing) -> Iterator[tuple[object, ...]]:
    for entry in (OURS, PAPER):
        for budget in COMPARED:
            means = [standing.mean(suite, entry, budget) for suite in (CLEAN, DISTRACTORS)]
            if all(means):
                yield (entry, f"{budget:,}", *means)


def _fronts(areas: Records) -> Iterator[tuple[object, ...]]:
    for suite, budget in product(FRONT_SUITES, COMPARED):
        rows = [areas.of(suite=suite, budget=budget, algorithm=algorithm) for algorithm in FRONTS]
        if all(rows):
            means = [Mean.of([float(str(row["test"])) for row in found]) for found in rows]
            ratio = means[0].value / means[1].value
            yield (suite, f"{budget:,}", *(f"{mean} (n {mean.count})" for mean in means), f"{ratio:.2f}")
