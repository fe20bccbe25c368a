"""What a search spends on anything but asking: merging, differentiating, proposing, recording."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.evolving.family import Family
from mergery.engine import make_plan
from mergery.evolve import SearchSpec
from mergery.evolve.home import Home
from mergery.evolve.opening import Search
from mergery.evolve.session import Session
from mergery.evolve.trial import Progress, Trial

MOST = 0.05
BLOCKS = {"weight": {"search": True, "by": "block"}}
DARE_TIES = {"weight": {"search": [0.0, 1.0], "start": 0.5}, "density": {"search": [0.0, 1.0], "start": 0.5}}

SEARCHES: Mapping[str, tuple[Mapping[str, object], str, Mapping[str, object]]] = {
    "default": ({}, "task_arithmetic", BLOCKS),
    "default, no gradients": ({"gradients": False}, "task_arithmetic", BLOCKS),
    "paper": ({"algorithm": "cma-es"}, "dare_ties", DARE_TIES),
}
"""Settings, method and knobs of each."""

BUDGETS = {"default": 3000, "default, no gradients": 3000, "paper": 1600}
"""Item evaluations: enough for a round of gradients where there are some."""


@dataclass(frozen=True)
class Spent:
    """Where the time of one search went, in seconds, and what it wrote.

    Attributes:
        wall: of the search, from its first trial to its last.
        asking: forward passes, and backward passes of gradients.
        merging: building candidates, and for gradients what is not the passes.
        rest: proposing, recording, and whatever else.
        trials: how many.
        gradients: how many of them were gradients.
        given_up: how many were given up.
        items: item evaluations; a gradient counts three.
        largest: most bytes in the search's directory while it ran.
        written: bytes that the process had written to disks.
        model: bytes of a model.
    """

    wall: float
    asking: float
    merging: float
    rest: float
    trials: int
    gradients: int
    given_up: int
    items: int
    largest: int
    written: int
    model: int

    @property
    def overhead(self) -> float:
        """Share of the wall time that is not asking."""
        return 1 - self.asking / self.wall


def spec_of(family: Family, name: str, *, budget: int, seed: int = 0) -> SearchSpec:
    """The search file."""
    settings, method, knobs = SEARCHES[name]
    models = [{"model": str(path), "parameters": dict(knobs)} for path in family.experts]
    recipe = {"merge_method": method, "base_model": str(family.base), "models": models}
    task = {split: str(family.file(split)) for split in ("confirm", "test")}
    task["validation"] = str(family.file("search"))
    return SearchSpec.from_dict(
        {"recipe": recipe, "search": {"budget": budget, "seed": seed, **settings}, "task": task}
    )


def spend(spec: SearchSpec) -> Spent:
    """Run one search, without its report."""
    with tempfile.TemporaryDirectory() as name:
        out = Path(name) / "out"
        checked = Search.open(spec)
        with Session(checked, Home(out), device="cpu") as session:
            watch = Watch(out)
            begin, written = time.perf_counter(), written_bytes()
            trials = session.search(watch)
            wall = time.perf_counter() - begin
            written = written_bytes() - written
    return account(trials, wall, watch.largest, written, make_plan(checked.start).bytes_written)


def account(trials: Sequence[Trial], wall: float, largest: int, written: int, model_bytes: int) -> Spent:
    """The sums."""
    asking = sum(trial.score_seconds for trial in trials)
    merging = sum(trial.build_seconds for trial in trials)
    gradients = sum(trial.gradient is not None for trial in trials)
    whole = sum(trial.whole for trial in trials)
    return Spent(
        wall=wall,
        asking=asking,
        merging=merging,
        rest=wall - asking - merging,
        trials=len(trials),
        gradients=gradients,
        given_up=len(trials) - gradients - whole,
        items=sum(trial.cost for trial in trials),
        largest=largest,
        written=written,
        model=model_bytes,
    )


@dataclass
class Watch:
    """Looks at a search's directory after every trial."""

    folder: Path
    largest: int = 0

    def __call__(self, progress: Progress) -> None:  # noqa: ARG002
        self.largest = max(self.largest, size_of(self.folder))


def size_of(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def written_bytes() -> int:
    """What this process has given to disks so far."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["write_bytes"])
