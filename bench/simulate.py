"""``python -m bench simulate``: what no disk here can hold, and what no plan should stumble over.

A merge of models of 64 B parameters, whose files are all holes and whose result is thrown away; and the
planning of a merge of 20,000 tiny tensors, beside mergekit's.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from bench import models, peer, timing
from bench.measure import Measured, measure
from bench.models import SIZES, Models, Size
from bench.page import RESULTS, table, write
from bench.records import Record, Records
from bench.rows import Row, row_of, write_recipe
from bench.timing import MIB

MOST_MIB = 512
PLAN_S = 2.0
TENSORS_IN_LAYER = 9
LARGE, PLANNING = "large", "planning"
LINEAR = Row("linear", base=False, own={"weight": None})


def main(options: Sequence[str] = ()) -> None:
    """Measure what is asked for, and write the page."""
    arguments = parse(options)
    records = Records(arguments.work / "simulate.jsonl", fresh=arguments.fresh)
    if not arguments.page:
        if LARGE in arguments.parts:
            for name in arguments.methods:
                large(name, arguments, records)
        if PLANNING in arguments.parts:
            planning(arguments, records)
    write("simulate", "Simulations", [*_large(records), "", *_planning(records)], options=options,
          folder=arguments.results)  # fmt: skip


def parse(options: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench simulate", description=__doc__)
    parser.add_argument("--parts", nargs="+", choices=(LARGE, PLANNING), default=[LARGE, PLANNING])
    parser.add_argument("--methods", nargs="+", default=["linear", "ties 0.2"], metavar="METHOD")
    parser.add_argument("--size", choices=list(SIZES), default="64b")
    parser.add_argument("--experts", type=int, default=8)
    parser.add_argument("--tensors", type=int, default=20_000)
    parser.add_argument("--repeat", type=int, default=3, help="of the planning")
    parser.add_argument("--limit", type=float, default=7200.0, help="seconds for one merge")
    parser.add_argument("--work", type=Path, default=models.DEFAULT_WORK, help="folder of models and records")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the page")
    parser.add_argument("--fresh", action="store_true", help="put earlier records aside")
    parser.add_argument("--page", action="store_true", help="measure nothing, write the page")
    return parser.parse_args(options)


def large(name: str, arguments: argparse.Namespace, records: Records) -> None:
    """Merge sparse files into nothing, and end it if it takes twice the memory that it may."""
    place = {"what": LARGE, "merge": name, "model": arguments.size, "experts": arguments.experts}
    if records.good(**place):
        return
    timing.compile_once(name, arguments.work)
    made = models.make_sparse(arguments.work, arguments.size, arguments.experts)
    recipe = write_recipe(arguments.work / "recipes" / "sparse", name, row_of(name), made, arguments.experts)
    measured = measure(
        _ours("-m", "bench.into_nothing", recipe),
        limit_s=arguments.limit,
        limit_bytes=2 * MOST_MIB * MIB,
    )
    _note(records, measured, **place)


def planning(arguments: argparse.Namespace, records: Records) -> None:
    """Plan, then merge, models of very many and very small tensors."""
    peer.ensure()
    made = _many_tensors(arguments.work, arguments.tensors)
    recipe = write_recipe(
        arguments.work / "recipes" / "many", f"{arguments.tensors} tensors", LINEAR, made, 2
    )
    out = arguments.work / "out"
    commands = {
        "mergery, planning": _ours("-m", "bench.into_nothing", recipe, "--plan"),
        "mergekit, planning": peer.command("--plan", recipe),
        "mergery plan": _ours("-m", "mergery", "plan", recipe),
        "mergery merge": timing.ours(recipe, out),
        "mergekit-yaml": timing.theirs(recipe, out),
    }
    for task, command in commands.items():
        place = {"what": PLANNING, "task": task, "tensors": arguments.tensors}
        repeat = 1 if task == "mergekit-yaml" else arguments.repeat
        while len(records.good(**place)) < repeat:
            measured, _ = timing.timed(command, [made.base, *made.experts], out, limit_s=arguments.limit)
            if _note(records, measured, **place)["code"]:
                break


def _ours(*words: str | Path) -> list[str]:
    return [sys.executable, *map(str, words)]


def _note(records: Records, measured: Measured, **place: object) -> Record:
    """Write down a run with what it printed about itself."""
    try:
        facts = dict(json.loads(measured.output))
    except ValueError:
        facts = {}
    row = records.add(measured, 0.0, **place, facts=facts)
    state = f"failed: {measured.error}" if measured.code else f"{measured.wall:.1f} s"
    print(f"{', '.join(map(str, place.values()))}: {state}, {measured.anonymous / MIB:.0f} MiB", flush=True)
    return row


def _many_tensors(work: Path, tensors: int) -> Models:
    """A base and two experts of as many tensors, of a few numbers each."""
    name = f"{tensors}-tensors"
    return models.make(work, name, 2, size=Size(4, 4, tensors // TENSORS_IN_LAYER, 2, 2, 8))


def _large(records: Records) -> list[str]:
    rows = []
    for row in records.of(what=LARGE):
        facts = row["facts"] if isinstance(row["facts"], dict) else {}
        parameters = SIZES[str(row["model"])].parameters
        peak = float(str(row["anonymous"])) / MIB
        seconds = float(str(row["wall"]))
        read = float(facts.get("bytes_read", 0))
        state = str(row["error"]) if row["code"] else "yes" if peak <= MOST_MIB else "**no**"
        rows.append(
            (
                row["merge"],
                f"{parameters / 1e9:.1f} B",
                row["experts"],
                f"{read / 1e12:.2f} TB",
                f"{facts.get('plan_s', 0.0):.2f}",
                f"{seconds:.0f}",
                f"{read / seconds / 1e9:.1f} GB/s",
                f"{peak:.0f}",
                state,
            )
        )
    header = (
        "merge",
        "parameters",
        "experts",
        "inputs",
        "planning, s",
        "whole, s",
        "inputs / s",
        "MiB",
        "target",
    )
    return [
        "## Models larger than the disk",
        "",
        "Files with real headers and holes for weights (all zeros), read whole; the result is",
        "computed and thrown away. MiB: anonymous and shared memory at the peak. Target: to the end,",
        f"within {MOST_MIB} MiB.",
        "",
        *table(header, rows),
    ]


def _planning(records: Records) -> list[str]:
    rows = []
    tasks = dict.fromkeys((row["task"], row["tensors"]) for row in records.of(what=PLANNING))
    for task, tensors in tasks:
        place = {"what": PLANNING, "task": task, "tensors": tensors}
        good = records.good(**place)
        if not good:
            rows.append((task, tensors, records.of(**place)[-1]["error"], "–", "–"))
            continue
        whole = median(float(str(row["wall"])) for row in good)
        inside = [_inside(row) for row in good]
        own = median(seconds for seconds in inside if seconds is not None) if None not in inside else None
        target = "–"
        if task in ("mergery, planning", "mergery plan"):
            target = f"≤ {PLAN_S:g} s: {'yes' if (own or whole) <= PLAN_S else '**no**'}"
        rows.append((task, tensors, f"{whole:.2f}", "–" if own is None else f"{own:.2f}", target))
    return [
        "## Very many tensors",
        "",
        "A Llama of very many layers, each of a few numbers; linear, two experts. Planning: from the",
        "recipe to the list of all tensors (in mergekit: to the order of its tasks), nothing merged;",
        "its seconds are taken inside the process, after the imports.",
        "",
        *table(("command", "tensors", "whole process, s", "planning alone, s", "target"), rows),
    ]


def _inside(row: Record) -> float | None:
    facts = row["facts"] if isinstance(row["facts"], dict) else {}
    seconds = facts.get("plan_s", facts.get("seconds"))
    return None if seconds is None else float(seconds)
