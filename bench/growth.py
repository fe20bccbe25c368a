"""``python -m bench growth``: how Mergery's time and memory grow with the number of experts and with size."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from bench import models, timing
from bench.page import RESULTS, spread, table, write
from bench.records import Records
from bench.rows import Row, inputs, row_of, write_recipe
from bench.timing import MIB

DRAWN = ("linear", "ties 0.2", "dare_ties 0.5", "della 0.5", "model_stock")
MOST_MIB = 512
FLAT = 1.10


@dataclass(frozen=True)
class Case:
    """One point."""

    name: str
    size: str
    experts: int

    @property
    def row(self) -> Row:
        """The kind of merge: one of those that are compared with mergekit, or any registered method."""
        return row_of(self.name)

    @property
    def place(self) -> dict[str, object]:
        """What its records are found by."""
        return asdict(self)


def main(options: Sequence[str] = ()) -> None:
    """Measure what is not measured yet, write the plot and the page."""
    arguments = parse(options)
    records = Records(arguments.work / "growth.jsonl", fresh=arguments.fresh)
    largest = arguments.sizes[-1]
    by_experts = [Case(name, largest, count) for name in arguments.methods for count in arguments.experts]
    by_size = [
        Case(name, size, arguments.experts[-1]) for name in arguments.methods for size in arguments.sizes
    ]
    flat = [Case(name, size, arguments.experts[-1]) for name in _methods() for size in arguments.flat]
    if not arguments.page:
        for name in dict.fromkeys(case.name for case in [*by_experts, *flat]):
            timing.compile_once(name, arguments.work)
        for case in dict.fromkeys([*by_experts, *by_size]):
            run(case, arguments.repeat, arguments, records)
        for case in flat:
            run(case, 1, arguments, records)
    arguments.results.mkdir(parents=True, exist_ok=True)
    draw(records, by_experts, by_size, arguments.results / "growth.png")
    lines = [
        "Mergery alone, whole processes, warm cache; random Llamas in bfloat16, parameters of each: "
        f"{_parameters([*arguments.sizes, *arguments.flat])}. Mergery at {records.revisions()}. MiB:",
        "anonymous and shared memory at the peak, the most of all runs.",
        "",
        "![seconds and memory over experts and size](growth.png)",
        "",
        "## Experts",
        "",
        *table(("merge", "size", "experts", "seconds", "MiB"), _rows(records, by_experts)),
        "",
        "## Size",
        "",
        *table(("merge", "size", "experts", "seconds", "MiB"), _rows(records, by_size)),
        "",
        "## Memory of every method",
        "",
        f"Defaults, up to {arguments.experts[-1]} experts, models of {_parameters(arguments.flat)}.",
        f"Target: at most {MOST_MIB} MiB, and within {FLAT - 1:.0%} of each other.",
        "",
        *table(
            ("method", "experts", *(f"{size}, MiB" for size in arguments.flat), "ratio", "target"),
            _flatness(records, flat, len(arguments.flat)),
        ),
    ]
    write("growth", "Growth", lines, options=options, folder=arguments.results)


def parse(options: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench growth", description=__doc__)
    sizes = list(models.SIZES)
    parser.add_argument("--methods", nargs="+", default=list(DRAWN), metavar="METHOD")
    parser.add_argument("--experts", nargs="+", type=int, default=list(range(1, 9)))
    parser.add_argument("--sizes", nargs="+", choices=sizes, default=["62m", "124m", "248m", "0.5b"])
    parser.add_argument(
        "--flat", nargs="+", choices=sizes, default=["62m", "0.5b"], help="sizes for every method's memory"
    )
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--distinct", type=int, default=8, help="experts written; the rest are links to them")
    parser.add_argument("--work", type=Path, default=models.DEFAULT_WORK, help="folder of models and records")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the page")
    parser.add_argument("--fresh", action="store_true", help="put earlier records aside")
    parser.add_argument("--page", action="store_true", help="measure nothing, write the page")
    return parser.parse_args(options)


def run(case: Case, repeat: int, arguments: argparse.Namespace, records: Records) -> None:
    """Measure one point as often as wanted."""
    made = models.make(arguments.work, case.size, case.experts, distinct=arguments.distinct)
    folder = arguments.work / "recipes" / case.size
    recipe = write_recipe(folder, case.name, case.row, made, case.experts)
    read = inputs(case.row, made, case.experts)
    out = arguments.work / "out"
    while len(records.good(**case.place)) < repeat:
        measured, load = timing.timed(timing.ours(recipe, out), read, out)
        records.add(measured, load, **case.place)
        state = f"{measured.wall:.2f} s, {measured.anonymous / MIB:.0f} MiB"
        state = state if measured.code == 0 else f"failed: {measured.error}"
        print(f"{case.name}, {case.size}, {case.experts} experts: {state}", flush=True)
        if measured.code:
            return


def draw(records: Records, by_experts: Sequence[Case], by_size: Sequence[Case], path: Path) -> None:
    """Seconds and memory over the number of experts, and over the size."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 2, figsize=(10, 7), layout="constrained")
    for column, cases in enumerate((by_experts, by_size)):
        for name in dict.fromkeys(case.name for case in cases):
            points = [case for case in cases if case.name == name and records.good(**case.place)]
            across = [
                case.experts if column == 0 else models.SIZES[case.size].parameters / 1e6 for case in points
            ]
            seconds = [median(records.numbers("wall", **case.place)) for case in points]
            memory = [max(records.numbers("anonymous", **case.place)) / MIB for case in points]
            axes[0][column].plot(across, seconds, marker="o", label=name)
            axes[1][column].plot(across, memory, marker="o", label=name)
        for row, unit in enumerate(("seconds", "MiB, anonymous")):
            axes[row][column].set_ylim(bottom=0)
            axes[row][column].set_xlabel(("experts", "million parameters")[column])
            axes[row][column].set_ylabel(unit)
            axes[row][column].grid(alpha=0.3)
    axes[0][0].legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def _methods() -> tuple[str, ...]:
    from mergery.methods import method_names

    return tuple(method_names())


def _parameters(sizes: Sequence[str]) -> str:
    """The sizes, spelled out."""
    return ", ".join(f"{size}: {models.SIZES[size].parameters / 1e6:.1f} M" for size in dict.fromkeys(sizes))


def _rows(records: Records, cases: Sequence[Case]) -> Iterator[tuple[object, ...]]:
    for case in cases:
        memory = records.numbers("anonymous", **case.place)
        if memory:
            seconds = spread(records.numbers("wall", **case.place), 2)
            yield case.name, case.size, case.experts, seconds, f"{max(memory) / MIB:.0f}"
        else:
            failed = records.of(**case.place)
            yield case.name, case.size, case.experts, failed[-1]["error"] if failed else "–", "–"


def _flatness(records: Records, cases: Sequence[Case], sizes: int) -> Iterator[tuple[object, ...]]:
    """One row a method: its cases come in runs of ``sizes``."""
    for first in range(0, len(cases), sizes):
        group = cases[first : first + sizes]
        peaks = [max(records.numbers("anonymous", **case.place), default=0) / MIB for case in group]
        failed = [row for case in group for row in records.of(**case.place) if row.get("code")]
        fixed = group[0].row.experts
        experts = group[0].experts if fixed is None else min(fixed, group[0].experts)
        if not all(peaks):
            reason = failed[-1]["error"] if failed else "not run"
            yield group[0].name, experts, *(["–"] * sizes), "–", reason
            continue
        ratio = peaks[-1] / peaks[0]
        kept = max(peaks) <= MOST_MIB and 1 / FLAT <= ratio <= FLAT
        cells = (f"{peak:.0f}" for peak in peaks)
        yield group[0].name, experts, *cells, f"{ratio:.2f}", "yes" if kept else "**no**"
