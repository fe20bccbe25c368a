"""The page's tables: every figure with the target that it answers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import product

from bench.page import table
from bench.paths.encodings import CAT, DRAWS, ENTRIES, ITEMS, PAPER, RECOVERED, STAGED
from bench.paths.gain import ALONE, LONGEST, STEPS
from bench.paths.planted import DAMAGES, FACTORS
from bench.paths.verdicts import (
    NOTHING,
    gain_of,
    numbers,
    of_encodings,
    of_gains,
    of_planted,
    of_sharing,
    of_written,
)
from bench.paths.written import SIXTEEN
from bench.records import Record, Records
from bench.search.standing import Mean

SUITES = ("algorithms", "formats", "languages", "skills")
FIRST, TOTAL = 12000, 24000
AFTER = (("cat-cma", TOTAL - FIRST), ("staged", TOTAL - FIRST))
"""What looks for a path behind the weights of the first budget, and what it may spend on it."""
MORE = (*AFTER, ("staged", 3 * (TOTAL - FIRST)))
"""The same for the seeds ``THOROUGH``, where all single steps are tried, too: it takes twice the time."""
THOROUGH = (0,)
COUNTS = (20, 40, 100, 200)
FIFTH = COUNTS[1]
ALIGNED = (STAGED, CAT)

GAIN = f"""
## Weights and a path, against weights alone

Target: the gain's interval above 0 on at least 3 of 4 suites, at most {LONGEST} × as deep; or a negative
result with its reason.

Right answers on 3,000 sealed items in %, mean over seeds with its 95 % interval (Student's t). *Weights* is
the default search with {TOTAL:,} item evaluations. The others spend {FIRST:,} on weights and the rest on a
path through their result and the experts (aligned encoding), by the algorithm that the row names. Finalists
are confirmed within the budget. The first gain is that over weights alone at the same budget, the second that
over the weights that the path began with; both are paired by seed. *Layers*: how deep the deepest result is.
*Better* is how many of the paths tried beat, on the search's items, the model that they began with. With the
first seed a path gets three times as much beside, more than the weights had.

*All single steps* says why: every path that differs from the merged model in one slot's layer (skipped,
another model's, twice) or in one gain, scored on the 1,000 items held back; the best of them on the sealed
items. Where weights still get better with more evaluations, a path takes them away."""

PLANTED = f"""
## Planted optima

Target: recovered. Experts of the suite `algorithms` are taken to pieces, and searched for with the aligned
encoding, {COUNTS[-1]} candidates × {ITEMS} items; `staged` is the default algorithm. *Shuffled*: two of the
donor's layers have changed places, in a second model two others. *Dropped*: one is lost, the one below it
stands there twice; in a second model another. *Mis-scaled*: what each layer puts out is multiplied by
{FACTORS[0]} or {FACTORS[1]}. *All but dropped*: shuffled, mis-scaled, and a layer of random weights between
the others. Damages are drawn until the donor's score is below half of the whole model's, up to {DRAWS} times.
Right answers on sealed items in %, mean over seeds with its 95 % interval. *Recovered*: {RECOVERED:.0%} of
the whole model's score on the search's items; *needed*: after how many candidates, in the median of those,
and item evaluations."""

ENCODINGS = f"""
## The aligned encoding against the paper's

Target: the quality of the paper's ({COUNTS[-1]} candidates, CMA-ES over slots × 3 and the matrix of scales)
after a fifth of the candidates, {FIFTH}. Of the algorithms for the aligned one, CatCMA is the paper's next of
kin. The same problems; right answers on sealed items in %, mean over seeds with its 95 % interval, by the
number of candidates. Where both find nothing, nothing is reached. Five layers are kind to the paper's: 130
numbers against 10. Two models of 32 layers have 4,288 against 64."""

WRITTEN = """
## Written models

Target: logits within 1e-3 of the searched graph's, relative and in float32; the same first choice on 10,000
tokens; no remote code. Random paths through two models of each kind, layers in any order, some twice, others
not at all, a random scale before each. Written by the engine, loaded by stock transformers with
`trust_remote_code=False`. Largest difference of logits as a share of the largest logit, over all paths, and
how many first choices differ; *searched* is the model that the search scores, *paper* the graph of Akiba et
al., where the stream itself is multiplied. Models of random weights; and experts of a suite, whose own files
have 16 bits: written in float32, and as they are, where gains are rounded with the weights that take them."""

SHARING = """
## Shared prefixes

Target: at least 40 % fewer layer forwards in local search, outputs bit-identical. Each candidate changes the
layer or the gain of one slot, one in twenty becomes what the next are varied from; 1 GiB for states, where no
run needs it all. Layers run with kept states and without; passes whose logits are equal bit for bit. Below:
the searches of the planted optima, where nearly every candidate has other gains from its first layer on."""


def page(records: Mapping[str, Records]) -> Iterator[str]:
    """All sections: what is measured, what it says of the target, and the figures."""
    gains, riddles = records["gain"], records["riddles"]
    gain = (f"gain over {TOTAL:,}", f"over {FIRST:,}")
    header = ("suite", "search", "item evaluations", "right", *gain, "layers", "better")
    yield from _section(GAIN.strip(), of_gains(gains, SUITES, TOTAL, FIRST), header, _gain(gains))
    header = ("problem", "broken", "search", "found", "whole", "recovered", "needed")
    yield from _section(PLANTED, of_planted(riddles, ALIGNED, COUNTS[-1]), header, _planted(riddles))
    counts = tuple(map(str, COUNTS))
    header = ("problem", f"paper, {COUNTS[-1]}", "aligned, by", *counts, "reached by", f"gain at {FIFTH}")
    verdict = of_encodings(riddles, ALIGNED, PAPER, COUNTS[-1], FIFTH)
    yield from _section(ENCODINGS, verdict, header, _encodings(riddles))
    header = ("kind", "paths", "tokens", "searched", "differ", "paper", "differ")
    stock = records["written"]
    yield from _section(WRITTEN, of_written(stock, SIXTEEN), header, _written(stock))
    header = (
        "models",
        "slots",
        "layers run",
        "without",
        "fewer",
        "identical passes",
        "time, of that without",
    )
    shared = records["sharing"]
    rows = (*_sharing(shared), *_shared(riddles))
    yield from _section(SHARING, of_sharing(shared), header, rows)


def _section(
    text: str, verdict: str, header: Sequence[str], rows: Iterable[Sequence[object]]
) -> Iterator[str]:
    yield from (*text.splitlines(), "", verdict, "", *table(header, rows))


def _mean(rows: Sequence[Record], field: str = "test") -> str:
    return f"{Mean.of(numbers(rows, field))}" if rows else "–"


def _gain(records: Records) -> Iterator[tuple[object, ...]]:
    for suite in SUITES:
        alone = records.of(suite=suite, entry=ALONE, budget=TOTAL)
        begun = records.of(suite=suite, entry=ALONE, budget=FIRST)
        if not alone:
            continue
        yield (suite, f"weights (n {len(alone)})", f"{TOTAL:,}", _mean(alone), "", "", "1", "")
        yield ("", "weights", f"{FIRST:,}", _mean(begun), gain_of(begun, alone) or "", "", "1", "")
        for entry, budget in _searches(records):
            rows = records.of(suite=suite, entry=entry, budget=budget)
            if rows:
                yield (
                    "",
                    f"{entry} (n {len(rows)})",
                    f"{FIRST:,} + {budget - FIRST:,}",
                    _mean(rows),
                    gain_of(rows, alone) or "",
                    gain_of(rows, begun) or "",
                    f"{max(numbers(rows, 'layers')):.1f}",
                    f"{sum(numbers(rows, 'better')):.0f} of {sum(numbers(rows, 'trials')):.0f}",
                )


def _searches(records: Records) -> list[tuple[str, int]]:
    """Path searches on record and their budgets, the smaller ones first, and single steps at the end."""
    paths = [row for row in records.of() if row["entry"] != ALONE]
    found = dict.fromkeys((str(row["entry"]), int(str(row["budget"]))) for row in paths)
    return sorted(found, key=lambda search: (search[0] == STEPS, search[1], search[0]))


def _planted(records: Records) -> Iterator[tuple[object, ...]]:
    for name, entry in product(DAMAGES, ALIGNED):
        rows = records.of(riddle=name, entry=entry, candidates=COUNTS[-1])
        if rows:
            needed = sorted(int(str(row["needed"])) for row in rows if row["needed"] is not None)
            middle = needed[len(needed) // 2] if needed else 0
            yield (
                name,
                _mean(rows, "broken"),
                entry,
                _mean(rows),
                _mean(rows, "whole"),
                f"{len(needed)} of {len(rows)}",
                f"{middle} ({middle * ITEMS:,})" if needed else "–",
            )


def _encodings(records: Records) -> Iterator[tuple[object, ...]]:
    for name, entry in product(DAMAGES, ALIGNED):
        goal = records.of(riddle=name, entry=PAPER, candidates=COUNTS[-1])
        found = {count: records.of(riddle=name, entry=entry, candidates=count) for count in COUNTS}
        if goal and all(found.values()):
            quality = Mean.of(numbers(goal, "test"))
            means = {count: Mean.of(numbers(rows, "test")) for count, rows in found.items()}
            reached = next((count for count in COUNTS if means[count].value >= quality.value), None)
            where = f"{reached} ({reached / COUNTS[-1]:.0%})" if reached else "not reached"
            if quality.value < Mean.of(numbers(goal, "broken")).value + NOTHING:
                where = "the paper's finds nothing"
            gain = gain_of(found[FIFTH], goal) or ""
            yield (f"{name} (n {len(goal)})", quality, entry, *means.values(), where, gain)


def _written(records: Records) -> Iterator[tuple[object, ...]]:
    for kind in dict.fromkeys(str(row["kind"]) for row in records.of()):
        rows = records.of(kind=kind)
        tokens = sum(numbers(rows, "tokens"))
        figures = (
            figure
            for name in ("searched", "paper")
            for figure in (
                f"{max(numbers(rows, name)):.1e}",
                f"{tokens - sum(numbers(rows, f'{name}_same')):.0f}",
            )
        )
        yield (kind, len(rows), f"{tokens:,.0f}", *figures)


def _sharing(records: Records) -> Iterator[tuple[object, ...]]:
    for models in dict.fromkeys(str(row["models"]) for row in records.of()):
        rows = records.of(models=models)
        names = ("done", "without", "passes", "identical", "seconds", "seconds_without")
        done, without, passes, identical, seconds, plain = (sum(numbers(rows, name)) for name in names)
        yield (
            f"{models} (n {len(rows)})",
            rows[0]["slots"],
            f"{done:,.0f}",
            f"{without:,.0f}",
            f"{1 - done / without:.0%}",
            f"{identical:.0f} of {passes:.0f}",
            f"{seconds / plain:.2f}",
        )


def _shared(records: Records) -> Iterator[tuple[object, ...]]:
    for entry in ENTRIES:
        rows = records.of(entry=entry, candidates=COUNTS[-1])
        if rows:
            share = sum(numbers(rows, "shared")) / len(rows)
            yield (f"search by {entry} (n {len(rows)})", "5–6", "", "", f"{share:.0%}", "", "")
