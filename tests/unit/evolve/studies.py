"""Studies on real algorithms, exams, ledgers and records, with a formula for a score."""

from __future__ import annotations

import dataclasses

from mergery.evolve.algorithms import AlgorithmSettings, get_algorithm
from mergery.evolve.examiner import Examiner
from mergery.evolve.launchers import InlineLauncher
from mergery.evolve.launchers.inline import run_job
from mergery.evolve.ledger import Ledger
from mergery.evolve.record import Record
from mergery.evolve.study import Budget, Study
from unit.evolve.formulas import SPACE, Builder, Formula, chance, exam

RUNGS = (0.1, 0.2, 0.4, 0.7, 1.0)


class Scrambled:
    """Several jobs at a time, which end in an order that depends on nothing but their numbers."""

    def __init__(self, examiner, slots):
        self._examiner, self.slots = examiner, slots
        self._jobs = {}
        self.most = 0
        self.ended = []

    def submit(self, job):
        self._jobs[job.number] = job
        self.most = max(self.most, len(self._jobs))
        assert self.most <= self.slots

    def next(self):
        number = min(self._jobs, key=lambda number: chance("duration", number))
        self.ended.append(number)
        return run_job(self._examiner, self._jobs.pop(number))

    def close(self):
        self._jobs.clear()


def run(
    path,
    formula=None,
    *,
    trials=None,
    budget=None,
    seed=0,
    progress=None,
    algorithm="cma-es",
    asked=None,
    racing=False,
    slots=0,
    references=(),
    ledger=None,
    space=SPACE,
    launchers=None,
):
    """Run a study; without a slot in this process, else ``slots`` of them in a scrambled order."""
    asked = asked or exam(formula or Formula(), count=20, shares=RUNGS if racing else (1.0,))
    if trials is None and budget is None:
        trials = 30
    record = Record(path, "study", directions=asked.directions, names=space.names, domains=space.domains)
    if isinstance(algorithm, str):
        kind = get_algorithm(algorithm)
        problem = dataclasses.replace(space.problem, objectives=len(asked.directions))
        algorithm = kind.start(problem, AlgorithmSettings(seed=seed))
    inquiry = Examiner(Builder(), asked, ledger or Ledger(), "inputs")
    launcher = Scrambled(inquiry, slots) if slots else InlineLauncher(inquiry)
    if launchers is not None:
        launchers.append(launcher)
    study = Study(
        space, algorithm, asked, launcher, record, inquiry.recall, references=references, racing=racing
    )
    return study.run(Budget(budget, trials), progress)


def essence(trials):
    """All of a trial but its times."""
    seconds = {"build_seconds": 0.0, "score_seconds": 0.0, "overhead_seconds": 0.0}
    return [dataclasses.replace(trial, **seconds) for trial in trials]


def best(trials):
    return max((trial for trial in trials if trial.whole), key=lambda trial: trial.score)
