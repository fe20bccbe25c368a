"""How busy workers are kept when some candidates take much longer than others.

    python -m bench.search.asynchrony --algorithm random cma-es --slots 4 8 --trials 60 --seconds 0.5

Evaluation times are log-normal with sigma 1: one candidate in six takes more than 2.7 times the median, one
in forty-four more than 7.4 times. The search is the real one (study, record, ledger, workers in processes of
their own); only the workers sleep in place of scoring. Utilisation is the sum of evaluation times over the
workers' time, from the first candidate to the end of the last, when most have nothing to do any more; and
from the first candidate to the moment when the last is begun, as in a long search. Beside it stands a loop of
generations that waits for the whole of each, as large as CMA-ES makes them, or as there are workers, if that
is more.
"""

from __future__ import annotations

import argparse
import math
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.page import table
from mergery.evaluate import Items, get_evaluator
from mergery.evaluate.items import Item
from mergery.evolve import SearchSpace
from mergery.evolve.algorithms import Algorithm, AlgorithmSettings, Outcome, algorithm_names, get_algorithm
from mergery.evolve.candidate import Candidate
from mergery.evolve.exam import Exam, Section
from mergery.evolve.examiner import Examined, Examiner, Hope
from mergery.evolve.launchers import Finished, Job
from mergery.evolve.launchers.processes import ProcessLauncher
from mergery.evolve.launchers.worker import Place
from mergery.evolve.ledger import Ledger
from mergery.evolve.record import Record
from mergery.evolve.study import Budget, Study

EXPERTS = 4
WARM_UP = 4.0
"""Seconds in which all workers have begun, once the first has."""

WARMING = 9.0
"""First weight of the candidates that only wait so long."""

ITEMS = Items("none", tuple(Item(f"{number}", " 0") for number in range(20)))
EXAM = Exam((Section("task", get_evaluator("likelihood"), ITEMS),))


@dataclass(frozen=True)
class Sleeper:
    """Takes a time that follows from the candidate, and knows its outcomes from a formula."""

    median: float

    exam = EXAM

    def keep(self, candidate: Candidate, examined: Examined) -> None:
        """It remembers nothing."""

    def examine(self, candidate: Candidate, hope: Hope | None = None) -> Examined:  # noqa: ARG002
        begin = time.perf_counter()
        weights = weights_of(candidate)
        drawn = random.Random(candidate.recipe.digest).lognormvariate(0, 1)
        time.sleep(WARM_UP if weights[0] >= WARMING else self.median * drawn)
        outcomes = (-((weights - 0.6) ** 2).sum() - np.arange(len(EXAM)) / 10).astype(np.float32)
        return Examined(outcomes, outcomes, 0.0, time.perf_counter() - begin)


@dataclass(frozen=True)
class OpenSleeper:
    """Opens a :class:`Sleeper` in a worker."""

    median: float

    def __call__(self, place: Place, ledger: Ledger) -> Sleeper:  # noqa: ARG002
        return Sleeper(self.median)


@dataclass(frozen=True)
class Usage:
    """How busy the workers were, 0 to 1: in all, and until the last job was begun; and seconds of each trial
    that went into asking and recording."""

    whole: float
    steady: float
    overhead: float = 0.0


class Watched(ProcessLauncher):
    """Notes when jobs are begun, and how long they sleep."""

    def watch(self) -> None:
        """Begin anew."""
        self.begun: dict[int, float] = {}
        self.slept: dict[int, float] = {}
        self.start = time.perf_counter()

    def submit(self, job: Job) -> None:
        self.begun[job.number] = time.perf_counter()
        super().submit(job)

    def next(self) -> Finished:
        finished = super().next()
        assert finished.examined is not None
        self.slept[finished.number] = finished.examined.score_seconds
        return finished

    def usage(self, overhead: float = 0.0) -> Usage:
        last, end = max(self.begun.values()), time.perf_counter()
        early = sum(min(self.slept[number], last - begun) for number, begun in self.begun.items())
        room = self.slots
        return Usage(
            sum(self.slept.values()) / (end - self.start) / room, early / (last - self.start) / room, overhead
        )


def space() -> SearchSpace:
    """A weight for each expert."""
    knob = {"search": [-0.5, 1.5], "start": 0.5}
    models = [{"model": f"expert-{number}", "parameters": {"weight": knob}} for number in range(EXPERTS)]
    return SearchSpace.open({"merge_method": "task_arithmetic", "base_model": "base", "models": models})


def weights_of(candidate: Candidate) -> np.ndarray:
    return np.array([source.parameters["weight"] for source in candidate.recipe.slices[0].sources])


def start(name: str, seed: int) -> Algorithm:
    return get_algorithm(name).start(space().problem, AlgorithmSettings(seed))


def asynchronous(launcher: Watched, home: Path, name: str, trials: int, seed: int) -> Usage:
    """A study as searches run it."""
    where, ledger = space(), Ledger(home / "ledger.sqlite")
    record = Record(
        home / "journal.log", "study", directions=EXAM.directions, names=where.names, domains=where.domains
    )
    recall = Examiner(None, EXAM, ledger, "none").recall  # type: ignore[arg-type]  # it is never asked to build
    study = Study(where, start(name, seed), EXAM, launcher, record, recall)
    launcher.watch()
    ended = study.run(Budget(trials=trials))
    usage = launcher.usage(sum(trial.overhead_seconds for trial in ended) / trials)
    ledger.close()
    return usage


def generations(launcher: Watched, name: str, trials: int, seed: int) -> Usage:
    """Ask for a generation, wait until all of it has ended, tell, and so on; nothing is written."""
    where, algorithm = space(), start(name, seed)
    size = max(launcher.slots, 4 + math.floor(3 * math.log(EXPERTS)))
    launcher.watch()
    told = 0
    while told < trials:
        asked = algorithm.ask(min(size, trials - told))
        for number, proposal in enumerate(asked):
            launcher.submit(Job(told + number, where.candidate(where.decode(proposal.point))))
        for finished in [launcher.next() for _ in asked]:
            assert finished.examined is not None
            losses = EXAM.losses(finished.examined.outcomes)
            algorithm.tell(asked[finished.number - told], Outcome((float(losses.mean()),), losses))
        told += len(asked)
    return launcher.usage()


def warm_up(launcher: Watched) -> None:
    """Wait until all workers are there."""
    launcher.watch()
    where = space()
    for number in range(launcher.slots):
        launcher.submit(Job(number, where.candidate((WARMING + number, *[0.0] * (EXPERTS - 1)))))
    for _ in range(launcher.slots):
        launcher.next()


def usages(name: str, slots: int, arguments: argparse.Namespace) -> tuple[Usage, Usage]:
    """How busy an algorithm keeps its workers when it waits for none, and by generations."""
    trials = arguments.trials * slots
    with tempfile.TemporaryDirectory() as folder, Ledger() as ledger:
        own = Examiner(None, EXAM, ledger, "none")  # type: ignore[arg-type]  # workers are asked
        places = [Place("cpu")] * slots
        with Watched(own, OpenSleeper(arguments.seconds), places) as launcher:
            warm_up(launcher)
            free = asynchronous(launcher, Path(folder), name, trials, arguments.seed)
            return free, generations(launcher, name, trials, arguments.seed)


def rows(arguments: argparse.Namespace) -> Iterator[tuple[str, ...]]:
    for slots in arguments.slots:
        for name in arguments.algorithm:
            free, bound = usages(name, slots, arguments)
            yield (
                name,
                str(slots),
                str(arguments.trials * slots),
                f"{free.whole:.1%}",
                f"{free.steady:.1%}",
                f"{bound.whole:.1%}",
                f"{1000 * free.overhead:.0f}",
            )


def parse(options: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--algorithm", nargs="+", default=["random", "cma-es"], choices=algorithm_names())
    parser.add_argument("--slots", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--trials", type=int, default=60, help="for each slot")
    parser.add_argument("--seconds", type=float, default=0.3, help="median of the evaluation times")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(options)


def main() -> None:
    header = (
        "algorithm",
        "workers",
        "trials",
        "asynchronous",
        "until the last is begun",
        "by generations",
        "ms a trial to ask and record",
    )
    print("\n".join(table(header, rows(parse()))))


if __name__ == "__main__":
    main()
