"""What a search spends: budgets, races, gradients."""

from __future__ import annotations

import dataclasses
import math

import pytest

from mergery.evolve.algorithms import Proposal
from mergery.evolve.examiner import Examiner
from mergery.evolve.launchers import Finished
from mergery.evolve.launchers.inline import run_job
from mergery.evolve.ledger import Ledger
from mergery.evolve.record import Record
from mergery.evolve.study import GRADIENT_COST, Budget, Study
from unit.evolve.formulas import SPACE, Builder, Formula, exam
from unit.evolve.studies import RUNGS, best, essence, run

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")


def test_racing_asks_fewer_items_and_finds_the_same_winner(tmp_path):
    """Candidates drawn beforehand, one of them clearly the best: the race cannot change who is asked for."""
    asked = exam(count=200, shares=RUNGS)
    raced = run(tmp_path / "raced.log", asked=asked, racing=True, algorithm="random", trials=60)
    plain = run(tmp_path / "plain.log", asked=exam(count=200), algorithm="random", trials=60)
    assert best(raced).genome == best(plain).genome
    assert best(raced).score == pytest.approx(best(plain).score, rel=1e-6)
    costs = [sum(trial.cost for trial in trials) for trials in (raced, plain)]
    assert costs[1] == 60 * 200
    assert costs[0] < 0.4 * costs[1]
    given_up = [trial for trial in raced if not trial.whole]
    assert {trial.items for trial in given_up} <= {20, 40, 80, 140}
    # what they would have scored is estimated from the best one's answers
    errors = [trial.score - plain[trial.number].score for trial in given_up]
    assert max(map(abs, errors)) < 0.1
    assert all(trial.cost == trial.items for trial in raced)


@pytest.mark.parametrize("slots", [0, 3])
@pytest.mark.parametrize("racing", [False, True])
@pytest.mark.parametrize("budget", [19, 20, 139, 140, 500])
def test_a_budget_is_never_exceeded_and_nearly_spent(tmp_path, slots, racing, budget):
    formula = Formula()
    trials = run(tmp_path / "j.log", formula, budget=budget, racing=racing, slots=slots)
    assert len(formula.asked) == sum(trial.cost for trial in trials) <= budget
    # what is left would not pay for one more
    assert budget - len(formula.asked) < 20
    if not racing:
        assert len(trials) == budget // 20


def test_a_larger_budget_goes_on_as_if_it_had_been_so_from_the_start(tmp_path):
    whole = run(tmp_path / "whole.log", budget=600, racing=True)
    for budget in (100, 250, 251, 600):
        parts = run(tmp_path / "parts.log", budget=budget, racing=True)
        assert essence(parts) == essence(whole)[: len(parts)]
    assert essence(parts) == essence(whole)


def test_trials_and_budget_end_a_search_whichever_is_first(tmp_path):
    assert len(run(tmp_path / "a.log", budget=1000, trials=7)) == 7
    assert len(run(tmp_path / "b.log", budget=100, trials=7)) == 5
    # a smaller end than the record's asks for nothing more
    assert len(run(tmp_path / "a.log", budget=20, trials=2)) == 7


class Steps:
    """An algorithm that wants a gradient every other time, of a batch larger than a third of the exam."""

    def __init__(self):
        self.asked = 0
        self.told = []

    def ask(self, count=1, pending=()):
        self.asked += 1
        point = (self.asked / 100,) * 3
        return [Proposal(point, "step", batch=self.asked if self.asked % 2 else None)]

    def tell(self, proposal, outcome):
        self.told.append((proposal, outcome))


@dataclasses.dataclass(frozen=True)
class Slope:
    loss: float
    gradient: tuple[float, ...]
    items: int
    build_seconds: float
    score_seconds: float


class Sloping:
    """Answers jobs that want a gradient; leaves the others to an inline launcher."""

    slots = 1

    def __init__(self, inquiry):
        self._inquiry, self._job = inquiry, None

    def submit(self, job):
        self._job = job

    def next(self):
        job = self._job
        if job.batch is None:
            return run_job(self._inquiry, job)
        count = sum(len(part.items) for part in self._inquiry.exam.batch(job.batch))
        return Finished(job.number, slope=Slope(0.25, job.genome, count, 0.0, 0.1))


def with_gradients(path, budget):
    asked, algorithm = exam(), Steps()
    record = Record(path, "study", directions=("maximize",), names=SPACE.names, domains=SPACE.domains)
    inquiry = Examiner(Builder(), asked, Ledger(), "inputs")
    study = Study(SPACE, algorithm, asked, Sloping(inquiry), record, inquiry.recall)
    return study.run(Budget(budget)), algorithm


def test_a_gradient_counts_threefold_and_the_budget_knows(tmp_path):
    """20 items, all of them in each batch: 60 for a gradient, 20 for a score."""
    assert GRADIENT_COST == 3
    for budget, costs in ((60, [60]), (79, [60]), (80, [60, 20]), (139, [60, 20]), (160, [60, 20, 60, 20])):
        trials, algorithm = with_gradients(tmp_path / f"{budget}.log", budget)
        assert [trial.cost for trial in trials] == costs
        again, _ = with_gradients(tmp_path / f"{budget}.log", budget)
        assert again == trials
    assert trials[0].gradient == trials[0].genome
    (_, outcome), (_, score) = algorithm.told[:2]
    assert (outcome.losses, outcome.smooth, outcome.gradient) == ((0.25,), 0.25, trials[0].gradient)
    assert score.gradient is None
    assert best(trials).number in (1, 3)
    continued, _ = with_gradients(tmp_path / "60.log", 160)
    assert essence(continued) == essence(trials)


def test_progress_by_budget(tmp_path):
    seen = []
    trials = run(tmp_path / "j.log", budget=300, racing=True, progress=seen.append)
    assert [progress.trial for progress in seen] == list(range(1, len(trials) + 1))
    assert seen[-1].spent == sum(trial.cost for trial in trials)
    assert [progress.share for progress in seen] == [progress.spent / 300 for progress in seen]
    assert all(math.isfinite(progress.seconds_left) for progress in seen)
