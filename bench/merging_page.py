"""The page of whole merges, from the records."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from bench.models import SIZES
from bench.page import spread, table
from bench.page import write as write_page
from bench.records import Records
from bench.timing import MIB

if TYPE_CHECKING:
    from bench.merging import Case

LEGEND = """\
Whole processes, seconds by the wall: median (lowest–highest, number of runs); ratios of medians.
Tools take turns, in alternating order, on the same files; outputs are deleted between runs.
mergekit is run twice: as it comes, and with `--async-write --out-shard-size 300M`, its fastest here
(`HF_HUB_OFFLINE=1`, `--random-seed 0`). Mergery is run as it comes; it waits until the output is on
the disk (fsync), mergekit does not. The floor is a process that reads the same files with `preadv`
into one buffer of 8 MiB and writes as much as one model holds with `pwrite`. A cold cache is one
from which the inputs were dropped (`posix_fadvise`, checked with `mincore`)."""

RATIOS = ("merge", "experts", "Mergery", "mergekit", "at its best", "ratio", "ratio to best", "target")
RESOURCES = (
    *("merge", "experts", "Mergery, s", "mergekit, s", "at its best, s"),
    *("Mergery, MiB", "mergekit, MiB", "at its best, MiB"),
)
FLOORS = (
    *("merge", "experts", "Mergery", "floor", "floor with fsync"),
    *("over floor", "over floor with fsync", "target"),
)


def write(records: Records, cases: Sequence[Case], options: Sequence[str], results: Path) -> None:
    """All tables."""
    sizes = list(dict.fromkeys(case.size for case in cases))
    shapes = "; ".join(
        f"{size}: {SIZES[size].parameters / 1e6:.0f} M parameters in bfloat16" for size in sizes
    )
    lines = [
        f"Random Llamas ({shapes}), experts = base + noise of sd 0.001.",
        "",
        *LEGEND.splitlines(),
        "",
        f"Mergery at {records.revisions(what='merge')}; load before the runs: {_loads(records, cases)}.",
        "",
        "## With a warm cache",
        "",
        *table(RATIOS, _ratios(records, cases)),
        "",
        "## Processor time and memory",
        "",
        "Seconds of processors; MiB of anonymous and shared memory at the peak, sampled every 20 ms",
        "(the most of all runs).",
        "",
        *table(RESOURCES, _resources(records, cases)),
    ]
    for state in ("cold", "warm"):
        rows = list(_floors(records, cases, state))
        if rows:
            lines += ["", f"## Against reading and writing alone, {state} cache", "", *table(FLOORS, rows)]
    lines += ["", "## The same numbers?", "", *_checks(records, cases)]
    write_page("merging", "Merging, side by side with mergekit", lines, options=options, folder=results)


def _loads(records: Records, cases: Sequence[Case]) -> str:
    loads = [float(str(row["load"])) for case in cases for row in records.good(**case.place, what="merge")]
    return f"median {median(loads):.1f}, at most {max(loads):.1f}" if loads else "nothing was run"


def _numbers(records: Records, case: Case, tool: str, field: str, state: str = "warm") -> list[float]:
    return records.numbers(field, **case.place, what="merge", cache=state, tool=tool)


def _quotient(above: Sequence[float], below: Sequence[float], digits: int = 1) -> str:
    return f"{median(above) / median(below):.{digits}f}" if above and below else "–"


def _verdict(target: str, kept: bool | None) -> str:
    return target if kept is None else f"{target}: {'yes' if kept else '**no**'}"


def _cell(records: Records, case: Case, tool: str, state: str = "warm") -> str:
    """Seconds, or why there are none."""
    seconds = _numbers(records, case, tool, "wall", state)
    failures = [
        row for row in records.of(**case.place, what="merge", cache=state, tool=tool) if row.get("code")
    ]
    return f"{failures[-1]['error']}" if failures and not seconds else spread(seconds, 2)


def _ratios(records: Records, cases: Sequence[Case]) -> Iterator[tuple[object, ...]]:
    for case in cases:
        mine = _numbers(records, case, "mergery", "wall")
        plain, best = (_numbers(records, case, f"mergekit {name}", "wall") for name in ("defaults", "best"))
        pairs = [(case.row.at_defaults, plain), (case.row.at_best, best)]
        kept = None
        if mine and (plain or best):
            kept = all(median(seconds) / median(mine) >= least for least, seconds in pairs if seconds)
        target = f"≥ {case.row.at_defaults:g}, ≥ {case.row.at_best:g}"
        yield (
            case.name,
            case.experts,
            _cell(records, case, "mergery") if mine else "not there yet",
            _cell(records, case, "mergekit defaults"),
            _cell(records, case, "mergekit best"),
            _quotient(plain, mine),
            _quotient(best, mine),
            _verdict(target, kept),
        )


def _resources(records: Records, cases: Sequence[Case]) -> Iterator[tuple[object, ...]]:
    tools = ("mergery", "mergekit defaults", "mergekit best")
    for case in cases:
        seconds = [_numbers(records, case, tool, "cpu") for tool in tools]
        memory = [_numbers(records, case, tool, "anonymous") for tool in tools]
        yield (
            case.name,
            case.experts,
            *(f"{median(values):.1f}" if values else "–" for values in seconds),
            *(f"{max(values) / MIB:.0f}" if values else "–" for values in memory),
        )


def _floors(records: Records, cases: Sequence[Case], state: str) -> Iterator[tuple[object, ...]]:
    for case in cases:
        mine, plain, durable = (
            _numbers(records, case, tool, "wall", state) for tool in ("mergery", "floor", "floor, fsync")
        )
        if not mine or not plain:
            continue
        target, kept = "–", None
        if state == "cold" and case.row.over_floor:
            target = f"≤ {case.row.over_floor:g}"
            kept = median(mine) / median(plain) <= case.row.over_floor
        yield (
            case.name,
            case.experts,
            *(spread(seconds, 2) for seconds in (mine, plain, durable)),
            _quotient(mine, plain, 2),
            _quotient(mine, durable, 2),
            _verdict(target, kept),
        )


def _checks(records: Records, cases: Sequence[Case]) -> list[str]:
    """What the comparison of values found."""
    rows = []
    for case in cases:
        for found in records.of(**case.place, what="check")[-1:]:
            numbers = {name: value for name, value in found.items() if isinstance(value, float)}
            errors = [numbers.get(f"{tool}_error") for tool in ("mergery", "mergekit")]
            rows.append(
                (
                    case.name,
                    case.experts,
                    f"{numbers['differing']:.1%}",
                    f"{numbers['largest']:.1e}",
                    f"{numbers['change']:.3f}",
                    *("masks drawn otherwise" if error is None else f"{error:.3f}" for error in errors),
                )
            )
    header = (
        *("merge", "experts", "elements that differ", "largest difference", "size of the change"),
        *("Mergery's error", "mergekit's error"),
    )
    return [
        "Before the timing both tools merge small models of the same kind in bfloat16, and the",
        "outputs are compared: mergekit computes in bfloat16, Mergery in float32 with one cast at the",
        "end. Size: root mean square of Mergery's changes from the base over that of mergekit's.",
        "Errors: root mean square of the differences from mergekit with `dtype: float32`, over that of",
        "its changes; what is written in bfloat16 has its rounding, too. In ties and breadcrumbs equal",
        "magnitudes add to them, frequent in bfloat16: Mergery keeps all that equal the smallest one kept,",
        "mergekit as many as the density says.",
        "[Agreement](agreement.md) compares models in float32.",
        "",
        *table(header, rows),
    ]
