"""Candidates that fail in every way, for searches with workers. Workers import this module by its name.

An evaluator of real models (``misbehaving``), and examiners that need no models at all.
"""

from __future__ import annotations

import multiprocessing
import os
import re
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mergery.errors import CheckpointError, RecipeError
from mergery.evaluate import Items, Scores, get_evaluator, register_evaluator
from mergery.evaluate.items import Item
from mergery.evolve import SearchSpace
from mergery.evolve.algorithms import AlgorithmSettings, get_algorithm
from mergery.evolve.candidate import Candidate
from mergery.evolve.exam import Exam, Section
from mergery.evolve.examiner import Examined, Examiner, Hope
from mergery.evolve.launchers.processes import ProcessLauncher
from mergery.evolve.launchers.worker import Place
from mergery.evolve.ledger import Ledger
from mergery.evolve.record import Record
from mergery.evolve.study import Budget, Study
from mergery.evolve.trial import Trial
from mergery.recipe import Recipe


def misbehave(way: str) -> None:
    """What may go wrong."""
    match way:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "hang":
            time.sleep(3600)
        case "hold":  # lets no other thread of the process run
            re.match(r"(a+)+$", "a" * 60 + "b")
        case "error":
            raise ValueError("no number in ''")
        case "memory":
            raise MemoryError
        case "division":
            raise ZeroDivisionError("division by zero")
        case "nan":
            raise RecipeError("the merged model's outputs are not finite", fix="narrow the ranges")
        case "exit":
            sys.exit(3)
        case "disk":
            raise CheckpointError("the disk is gone", fix="mount it")


class Misbehaving:
    """Likelihood; but in workers some candidates fail, in a way that their weights decide."""

    name, direction, proportion, soft = "misbehaving", "maximize", False, False

    def prepare(self, tokenizer, items, *, context=None):
        return _Scorer(get_evaluator("likelihood").prepare(tokenizer, items, context=context))

    def summarise(self, outcomes, hashes):
        return get_evaluator("likelihood").summarise(outcomes, hashes)


class _Scorer:
    def __init__(self, scorer) -> None:
        self._scorer = scorer

    def score(self, model) -> Scores:
        scores = self._scorer.score(model)
        way = way_of(model)
        if multiprocessing.parent_process() is None or not way:
            return scores
        if way == "nan":
            spoilt = np.full_like(scores.outcomes, np.nan)
            return Scores.mean_of(spoilt, scores.hashes, name="m", direction="maximize")
        misbehave(way)
        raise AssertionError


def way_of(model) -> str:
    """What goes wrong with a model: nothing for most."""
    weight = next(model.parameters())[5, 5].item()
    return ("kill", "hang", "nan", *[""] * 6)[int(abs(weight) * 1e4) % 9]


register_evaluator(Misbehaving())


EXAM = Exam(
    (Section("task", Misbehaving(), Items("items", tuple(Item(str(n), " x") for n in range(8)))),),
    (0.25, 1.0),
)
SPACE = SearchSpace.open(
    {
        "merge_method": "task_arithmetic",
        "base_model": "zoo/base",
        "models": [
            {"model": f"zoo/{name}", "parameters": {"weight": {"search": [-0.5, 3.0]}}} for name in "abc"
        ],
    }
)


def formula(recipe: Recipe) -> np.ndarray:
    """``(8,)`` outcomes of a recipe: the nearer its weights are to 0.7, the better."""
    weights = np.array([source.parameters["weight"] for source in recipe.slices[0].sources])
    return (-((weights - 0.7) ** 2).sum() - np.arange(8) / 8).astype(np.float32)


@dataclass
class Formula:
    """Examines without models, and writes down what it is asked: ``digest items`` a line.

    Attributes:
        log: where to.
        seconds: that a candidate takes.
        ways: what goes wrong with candidates, by their digests' first byte; 256 names, most of them empty.
    """

    log: Path
    seconds: float = 0.0
    ways: Sequence[str] = ("",)
    known: dict[str, Examined] = field(default_factory=dict)

    exam = EXAM

    def keep(self, candidate: Candidate, examined: Examined) -> None:
        self.known = {candidate.recipe.digest: examined}

    def examine(self, candidate: Candidate, hope: Hope | None = None) -> Examined:
        digest = candidate.recipe.digest
        told = len(self.known[digest].outcomes)
        outcomes = formula(candidate.recipe)
        asked = 0
        for asked in EXAM.ends:
            if asked > told:
                with self.log.open("a") as log:
                    log.write(f"{digest} {asked}\n")
                time.sleep(self.seconds)
                misbehave(self.ways[int(digest[:2], 16) % len(self.ways)])
            if asked < len(EXAM) and hope and not hope(EXAM.losses(outcomes[:asked])):
                break
        return Examined(outcomes[:asked], np.full(asked, np.nan, np.float32), 0.001, self.seconds)


@dataclass(frozen=True)
class OpenFormula:
    """Opens a :class:`Formula` in a worker; ``way`` goes wrong with that."""

    log: Path
    seconds: float = 0.0
    ways: Sequence[str] = ("",)
    way: str = ""

    def __call__(self, place: Place, ledger: Ledger) -> Formula:
        misbehave(self.way)
        return Formula(self.log, self.seconds, self.ways)


def search_formula(
    home: Path, opening: OpenFormula, *, workers: int, trials: int, timeout: float | None = None, **how: str
) -> tuple[Trial, ...]:
    """A search with a record and a ledger; whatever the ledger does not know only workers can answer."""
    kind = get_algorithm(how.get("algorithm", "cma-es"))
    with Ledger(home / "ledger.sqlite") as ledger:
        examiner = Examiner(None, EXAM, ledger, "inputs")
        record = Record(
            home / "journal.log", "study", directions=("maximize",), names=SPACE.names, domains=SPACE.domains
        )
        with ProcessLauncher(examiner, opening, [Place("cpu")] * workers, timeout) as launcher:
            study = Study(
                SPACE,
                kind.start(SPACE.problem, AlgorithmSettings(seed=5)),
                EXAM,
                launcher,
                record,
                examiner.recall,
                racing=True,
            )
            return study.run(Budget(trials=trials))
