"""What ``mergery evolve --dry-run`` says a search will take, against what it takes."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.measure import Measured, measure
from bench.search.arena import draw, spec_of
from bench.search.suite import Suite

WITHIN = 0.25
DRY_RUN = """
import json, sys
from mergery.evolve.forecast import forecast
(found,) = forecast(*sys.argv[1:])
print(json.dumps(found.to_dict()))
"""
SEED = 0


@dataclass(frozen=True)
class Pair:
    """A forecast and the search itself, each a process of its own.

    Attributes:
        forecast: seconds that the dry run says.
        real: seconds of the whole command.
        dry: seconds that the dry run takes.
        real_cpu: seconds of processors that the whole command takes.
        dry_cpu: seconds of processors that the dry run takes.
        forecast_trials: that it says.
        trials: that there were.
    """

    forecast: float
    real: float
    dry: float
    real_cpu: float
    dry_cpu: float
    forecast_trials: int
    trials: int

    @property
    def ratio(self) -> float:
        """Of the forecast to the truth, by the clock."""
        return self.forecast / self.real

    @property
    def steady_ratio(self) -> float:
        """The same in seconds of processors, of which each process got another share by the clock."""
        return self.forecast * (self.dry_cpu / self.dry) / self.real_cpu


def pair(suite: Suite, entry: str, budget: int, folder: Path, *, search_first: bool) -> Pair:
    """Both, in either order, on the same items."""
    folder.mkdir(parents=True, exist_ok=True)
    draw(suite, folder, seed=SEED, items=400)
    search, out = folder / "search.yml", folder / "out"
    search.write_text(spec_of(suite, entry, folder, seed=SEED, budget=budget).to_yaml())
    shutil.rmtree(out, ignore_errors=True)
    commands = [
        [sys.executable, "-c", DRY_RUN, str(search), str(folder / "not-there")],
        [sys.executable, "-m", "mergery", "evolve", str(search), str(out), "--quiet"],
    ]
    order = (1, 0) if search_first else (0, 1)
    found = {place: _good(measure(commands[place])) for place in order}
    told = json.loads(found[0].output.splitlines()[-1])
    trials = json.loads((out / "report.json").read_text())["trials"]
    shutil.rmtree(folder)
    dry, real = found[0], found[1]
    return Pair(told["total_seconds"], real.wall, dry.wall, real.cpu, dry.cpu, told["trials"], trials)


def _good(measured: Measured) -> Measured:
    if measured.code:
        raise RuntimeError(measured.error)
    return measured
