"""The page of what a search costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import median

from bench.evolving import construction, forecasts, overhead, workers
from bench.evolving.forecasts import Pair
from bench.evolving.overhead import Spent
from bench.page import spread, table
from bench.records import Record, Records

MB = 1e6


def lines(records: Records) -> Iterator[str]:
    """All rows of which there is a record."""
    yield "Ratios of times taken on the same machine at the same time, in one process where there is one."
    yield f"Mergery at {records.revisions()}."
    parts = {
        "overhead": _overhead,
        "construction": _construction,
        "memory": _memory,
        "workers": _workers,
        "forecast": _forecast,
    }
    for part, paragraph in parts.items():
        rows = records.of(part=part)
        if rows:
            yield ""
            yield from paragraph(rows)
    yield from ("", "## Resume", "")
    yield "That a search killed at any moment ends where it would have ended is a test: `make faults` kills"
    yield "one with signal 9 at twenty points, and compares its trials and its final recipe byte for byte."


def _overhead(rows: list[Record]) -> Iterator[str]:
    yield from ("## Time that is not spent on asking, at 30 million parameters", "")
    yield "Searches on Llamas of 31.5 million parameters: four experts, 400 items of 60 to 120 tokens with"
    yield "answers of 5 to 20; seconds from the first trial to the last. Asking is forward passes, and the"
    yield "backward passes of gradients; merging is building candidates, and for gradients everything that is"
    yield "not a pass; the rest proposes and records. Written is what the whole search gave to the disk, and"
    yield "that is its record. Target: merging and the rest"
    yield f"within {overhead.MOST:.0%} of the time, and no model written."
    yield ""
    yield from table(
        (
            "search",
            "trials (gradients, given up)",
            "item evaluations",
            "whole, s",
            "asking",
            "merging",
            "rest",
            "not asking",
            "target",
            "largest directory / a model, MB",
            "written, MB",
        ),
        map(_spent, rows),
    )


def _spent(row: Record) -> tuple[object, ...]:
    found = Spent(**{name: row[name] for name in Spent.__dataclass_fields__})
    kept = found.overhead <= overhead.MOST and found.written < found.model
    return (
        row["search"],
        f"{found.trials} ({found.gradients}, {found.given_up})",
        f"{found.items:,}",
        f"{found.wall:.0f}",
        *(f"{100 * share / found.wall:.2f} %" for share in (found.asking, found.merging, found.rest)),
        f"{100 * found.overhead:.2f} %",
        _kept(kept),
        f"{found.largest / MB:.1f} / {found.model / MB:.0f}",
        f"{found.written / MB:.1f}",
    )


def _construction(rows: list[Record]) -> Iterator[str]:
    size = rows[0]["size"]
    built, merged, loaded = ([_number(row, name) for row in rows] for name in ("built", "merged", "loaded"))
    ratios = [(b + c) / a for a, b, c in zip(built, merged, loaded, strict=True)]
    yield from ("## A candidate in memory against one through the disk", "")
    yield f"DARE-TIES of {construction.EXPERTS} experts with a weight and a density for each expert and"
    yield f"layer, models of {size} in bfloat16. In memory: a changed candidate in the live model. Through"
    yield "the disk: Mergery's own merge to a directory, then loading that with transformers in float32, as"
    yield "the live model is. Seconds; both in one process, by turns either goes first. Target:"
    yield f"at least {construction.TIMES:g} times faster."
    yield ""
    yield from table(
        ("in memory", "merging to disk", "loading", "ratio", "target"),
        [
            (
                spread(built, 2),
                spread(merged, 2),
                spread(loaded, 2),
                spread(ratios, 1),
                _kept(median(ratios) >= construction.TIMES),
            )
        ],
    )


def _memory(rows: list[Record]) -> Iterator[str]:
    peak, size = _number(rows[-1], "anonymous"), str(rows[-1]["size"])
    needed = construction.needed(size, construction.EXPERTS)
    yield from ("## Memory of building candidates", "")
    yield "A process that builds such candidates and nothing else: its anonymous memory at the peak, Python"
    yield "and torch included, against the bytes of base and experts in bfloat16 and of one model in float32."
    yield "Target: base, experts and one model."
    yield ""
    header = ("size", "peak, MB", "base + experts + one model, MB", "ratio")
    yield from table(header, [(size, f"{peak / MB:.0f}", f"{needed / MB:.0f}", f"{peak / needed:.2f}")])


def _workers(rows: list[Record]) -> Iterator[str]:
    yield from ("## Workers when some candidates take much longer", "")
    yield "Studies with workers in processes of their own, which sleep log-normal times (sigma 1, median"
    yield "0.3 s) in place of asking. Utilisation is sleeping by the workers' time: of the whole search, the"
    yield "end of its last trial included; and until the last trial is begun, as in a long search. Beside"
    yield f"them a loop that waits for whole generations. Target: {workers.LEAST:.0%}."
    yield ""
    header = (
        "algorithm",
        "workers",
        "trials",
        "whole",
        "until the last is begun",
        "by generations",
        "target",
    )
    yield from table(header, map(_busy, rows))


def _busy(row: Record) -> tuple[object, ...]:
    whole, steady = _number(row, "whole"), _number(row, "steady")
    shares = (f"{share:.1%}" for share in (whole, steady, _number(row, "generations")))
    return (row["algorithm"], row["slots"], row["trials"], *shares, _kept(whole >= workers.LEAST))


def _forecast(rows: list[Record]) -> Iterator[str]:
    pairs = {place: _pairs(rows, place) for place in dict.fromkeys(map(_place, rows))}
    ratios = [pair.ratio for found in pairs.values() for pair in found]
    held = sum(abs(ratio - 1) <= forecasts.WITHIN for ratio in ratios)
    yield from ("## Forecasts against the searches themselves", "")
    yield "What a dry run says in seconds, by what the command `mergery evolve` then takes, report included;"
    yield "each in a process of its own, by turns either goes first. By the clock, and in processor seconds:"
    yield "where other work comes and goes between the two, the clock measures that, too. Target: within"
    yield f"{forecasts.WITHIN:.0%}; by the clock {held} of {len(ratios)} are."
    yield ""
    columns = ("suite", "search", "budget", "forecast / real", "in processors' seconds")
    header = (*columns, "real, s", "dry run, s", "trials said / real", "target")
    yield from table(header, (_forecasts(*place, found) for place, found in pairs.items()))


def _place(row: Record) -> tuple[str, str, int]:
    return str(row["suite"]), str(row["entry"]), int(str(row["budget"]))


def _pairs(rows: list[Record], place: tuple[str, str, int]) -> list[Pair]:
    mine = [row for row in rows if _place(row) == place]
    return [Pair(**{name: row[name] for name in Pair.__dataclass_fields__}) for row in mine]


def _forecasts(suite: str, entry: str, budget: int, pairs: list[Pair]) -> tuple[object, ...]:
    ratios, steady = [pair.ratio for pair in pairs], [pair.steady_ratio for pair in pairs]
    return (
        suite,
        entry,
        f"{budget:,}",
        spread(ratios, 2),
        spread(steady, 2),
        spread([pair.real for pair in pairs], 0),
        spread([pair.dry for pair in pairs], 0),
        f"{pairs[0].forecast_trials} / {pairs[0].trials}",
        _kept(abs(median(ratios) - 1) <= forecasts.WITHIN),
    )


def _number(row: Mapping[str, object], name: str) -> float:
    return float(str(row[name]))


def _kept(kept: bool) -> str:
    return "yes" if kept else "**no**"
