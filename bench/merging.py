"""``python -m bench merging``: whole merges by Mergery and by mergekit 0.1.4, side by side in one run."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bench import merging_page, models, peer, timing
from bench.compare import likeness
from bench.page import RESULTS
from bench.records import Records
from bench.rows import ROWS, Row, inputs, write_recipe

# What makes mergekit fastest here: shards are written by a thread of their own while the next is merged.
# (--write-threads has no effect in 0.1.4: the option is not passed on.)
BEST = ("--async-write", "--out-shard-size", "300M")
SEED = ("--random-seed", "0")
PEERS = {"defaults": SEED, "best": (*BEST, *SEED)}
FLOORS = {"floor": False, "floor, fsync": True}


@dataclass(frozen=True)
class Case:
    """One line of the tables."""

    name: str
    experts: int
    size: str

    @property
    def row(self) -> Row:
        """The kind of merge."""
        return ROWS[self.name]

    @property
    def place(self) -> dict[str, object]:
        """What its records are found by."""
        return asdict(self)


def main(options: Sequence[str] = ()) -> None:
    """Measure what is not measured yet, and write the page."""
    arguments = parse(options)
    records = Records(arguments.work / "merging.jsonl", fresh=arguments.fresh)
    cases = list(_cases(arguments.methods, arguments.experts, arguments.size))
    if not arguments.page:
        peer.ensure()
        for case in cases:
            problem = check(case, arguments, records)
            if problem:
                print(f"{case.name}, {case.experts} experts: not there yet: {problem}")
                continue
            for cold in (False, True) if arguments.cold else (False,):
                run(case, cold, arguments, records)
    merging_page.write(records, cases, options, arguments.results)


def parse(options: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench merging", description=__doc__)
    parser.add_argument("--methods", nargs="+", choices=list(ROWS), default=list(ROWS), metavar="METHOD")
    parser.add_argument("--experts", nargs="+", type=int, default=[4, 8])
    parser.add_argument("--size", choices=list(models.SIZES), default="0.5b")
    parser.add_argument("--check-size", choices=list(models.SIZES), default="4m", help="for values")
    parser.add_argument("--repeat", type=int, default=5, help="runs of ours")
    parser.add_argument("--floor-repeat", type=int, default=5, help="runs of reading and writing alone")
    parser.add_argument("--peer-repeat", type=int, default=3, help="runs of mergekit")
    parser.add_argument("--peers", nargs="*", choices=list(PEERS), default=list(PEERS))
    parser.add_argument("--cold", action="store_true", help="also with the inputs out of the page cache")
    parser.add_argument("--limit", type=float, default=3600.0, help="seconds that one merge may take")
    parser.add_argument("--work", type=Path, default=models.DEFAULT_WORK, help="folder of models and records")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the page")
    parser.add_argument("--fresh", action="store_true", help="put earlier records aside")
    parser.add_argument("--page", action="store_true", help="measure nothing, write the page")
    return parser.parse_args(options)


def _cases(names: Sequence[str], experts: Sequence[int], size: str) -> Iterator[Case]:
    for name in names:
        fixed = ROWS[name].experts
        for count in experts if fixed is None else [fixed]:
            yield Case(name, count, size)


def check(case: Case, arguments: argparse.Namespace, records: Records) -> str:
    """Merge small models with both tools and compare; what keeps ours from it, if anything does.

    Both are compared with mergekit in float32, too, where the masks are not drawn at random.
    """
    place = {**case.place, "what": "check"}
    if records.of(**place):
        return ""
    made = models.make(arguments.work, arguments.check_size, case.experts)
    folder, read = arguments.work / "recipes" / arguments.check_size, inputs(case.row, made, case.experts)

    def recipe(dtype: str) -> Path:
        return write_recipe(folder / dtype, case.name, case.row, made, case.experts, dtype)

    outs = {tool: arguments.work / f"check-{tool}" for tool in ("mergery", "mergekit", "float32")}
    commands = {
        "mergery": timing.ours(recipe("bfloat16"), outs["mergery"]),
        "mergekit": timing.theirs(recipe("bfloat16"), outs["mergekit"], *SEED),
        "float32": timing.theirs(recipe("float32"), outs["float32"], *SEED),
    }
    for tool, command in commands.items():
        measured, _ = timing.timed(command, read, outs[tool], keep=True)
        if measured.code:
            return f"{tool}: {measured.error}"
    found = asdict(likeness(outs["mergery"], outs["mergekit"], made.base))
    errors = {
        f"{tool}_error": likeness(outs[tool], outs["float32"], made.base).error
        for tool in ("mergery", "mergekit")
        if not case.row.random
    }
    for out in outs.values():
        timing.remove(out)
    records.note(**place, **found, **errors, of=arguments.check_size)
    print(f"{case.name}, {case.experts} experts: {found} {errors}", flush=True)
    return ""


def run(case: Case, cold: bool, arguments: argparse.Namespace, records: Records) -> None:
    """Rounds of all tools, in alternating order, until there are as many as wanted of each."""
    made = models.make(arguments.work, case.size, case.experts)
    recipe = write_recipe(arguments.work / "recipes" / case.size, case.name, case.row, made, case.experts)
    read = inputs(case.row, made, case.experts)
    out = arguments.work / "out"
    commands = {"mergery": timing.ours(recipe, out)}
    commands |= {name: timing.floor(read, out, durable=durable) for name, durable in FLOORS.items()}
    wanted = {"mergery": arguments.repeat, **dict.fromkeys(FLOORS, arguments.floor_repeat)}
    if not cold:  # what is promised about mergekit is promised for a warm cache
        for name in arguments.peers:
            commands[f"mergekit {name}"] = timing.theirs(recipe, out, *PEERS[name])
            wanted[f"mergekit {name}"] = arguments.peer_repeat
    place = {**case.place, "what": "merge", "cache": "cold" if cold else "warm"}
    if all(len(records.good(**place, tool=tool)) >= count for tool, count in wanted.items()):
        return
    timing.compile_once(case.name, arguments.work)
    for turn in range(max(wanted.values())):
        for tool in list(commands) if turn % 2 == 0 else list(reversed(commands)):
            if turn >= wanted[tool] or len(records.good(**place, tool=tool)) > turn:
                continue
            measured, load = timing.timed(commands[tool], read, out, cold=cold, limit_s=arguments.limit)
            records.add(measured, load, **place, tool=tool)
            state = f"{measured.wall:.2f} s" if measured.code == 0 else f"failed: {measured.error}"
            print(f"{case.name}, {case.experts} experts, {place['cache']}, {tool}: {state}", flush=True)
            if measured.code:
                wanted[tool] = 0
