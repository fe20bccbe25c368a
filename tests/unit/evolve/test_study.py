"""The loop on real algorithms, exams, ledgers and records, with a formula for a score; killed for real."""

from __future__ import annotations

import dataclasses
import math
import multiprocessing
import os
import random
import time
from pathlib import Path

import numpy as np
import pytest

from mergery.errors import CheckpointError, RecipeError, StudyError
from mergery.evolve import SearchSpace
from mergery.evolve.algorithms import AlgorithmSettings, Proposal, get_algorithm
from mergery.evolve.examiner import Examiner
from mergery.evolve.launchers import Finished, InlineLauncher
from mergery.evolve.launchers.inline import run_job
from mergery.evolve.ledger import Ledger
from mergery.evolve.record import Record
from mergery.evolve.space import Candidate
from mergery.evolve.study import GRADIENT_COST, Budget, Reference, Study
from unit.evolve.formulas import SPACE, Builder, Formula, bowl, candidate, chance, exam

RUNGS = (0.1, 0.2, 0.4, 0.7, 1.0)


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    """Thousands of small writes; only a power cut would lose what the system still holds in memory."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


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


def test_a_search_improves(tmp_path):
    trials = run(tmp_path / "j.log", trials=150)
    scores = [trial.score for trial in trials]
    assert max(scores[-30:]) > max(scores[:15])
    assert [trial.number for trial in trials] == list(range(150))
    assert [(trial.asked_after, trial.told) for trial in trials] == [(n, n) for n in range(150)]


def test_scores_are_means_over_all_items(tmp_path):
    formula = Formula()
    asked = exam(formula)
    for trial in run(tmp_path / "j.log", asked=asked, trials=5):
        recipe = SPACE.recipe(trial.genome)
        outcomes = [np.float32(bowl(recipe, item)) for item in asked.sections[0].items]
        assert trial.score == pytest.approx(math.fsum(outcomes) / 20, rel=1e-6)
        assert trial.recipe == recipe.digest
        assert (trial.values, trial.items, trial.whole, trial.cost) == ((trial.score,), 20, True, 20)
    assert len(formula.asked) == 100


def test_minimising_turns_the_search_round(tmp_path):
    lower = Formula(lambda recipe, item: -bowl(recipe, item), direction="minimize")
    trials = run(tmp_path / "j.log", lower, trials=60)
    mirrored = run(tmp_path / "k.log", trials=60)
    assert [trial.genome for trial in trials] == [trial.genome for trial in mirrored]
    assert [trial.score for trial in trials] == [-trial.score for trial in mirrored]


@pytest.mark.parametrize("algorithm", ["cma-es", "random", "tpe"])
@pytest.mark.parametrize("stop", [0, 1, 6, 7, 29])
def test_stopped_and_continued_is_the_same_as_not_stopped(tmp_path, stop, algorithm):
    """The second run has an empty ledger: what the record needs is asked again."""
    whole = run(tmp_path / "whole.log", algorithm=algorithm, racing=True)
    if stop:
        run(tmp_path / "parts.log", trials=stop, algorithm=algorithm, racing=True)
    assert essence(run(tmp_path / "parts.log", algorithm=algorithm, racing=True)) == essence(whole)
    assert any(not trial.whole for trial in whole)


def test_what_is_told_is_not_asked_again(tmp_path):
    formula = Formula()
    with Ledger(tmp_path / "l.sqlite") as ledger:
        first = run(tmp_path / "j.log", formula, trials=10, racing=True, ledger=ledger)
        spent = len(formula.asked)
        assert spent == sum(trial.cost for trial in first)
        run(tmp_path / "j.log", formula, trials=10, racing=True, ledger=ledger)
        assert len(formula.asked) == spent
        more = run(tmp_path / "j.log", formula, trials=15, racing=True, ledger=ledger)
    assert len(formula.asked) == sum(trial.cost for trial in more)
    assert more[:10] == first


@pytest.mark.parametrize("racing", [False, True])
def test_several_at_a_time_in_any_order_are_continued_from_any_cut(tmp_path, racing):
    """The journal is cut after every fourth line; trials that were out are sent out again, as they were."""
    launchers = []
    whole = run(tmp_path / "whole.log", slots=4, racing=racing, launchers=launchers)
    assert launchers[0].most == 4
    told = sorted(whole, key=lambda trial: trial.told)
    assert [trial.number for trial in told] == launchers[0].ended != sorted(launchers[0].ended)
    # who is asked for knows of all that were told by then, and of no more
    assert all(trial.asked_after == sum(other.told < trial.asked_after for other in whole) for trial in whole)
    assert all(0 <= trial.number - trial.asked_after < 4 for trial in whole)
    assert any(not trial.whole for trial in whole) == racing

    lines = (tmp_path / "whole.log").read_bytes().splitlines(keepends=True)
    assert len(lines) == 1 + 3 * 30
    left_out = 0
    for cut in range(1, len(lines), 4):
        path = tmp_path / f"cut{cut}.log"
        path.write_bytes(b"".join(lines[:cut]))
        record = Record(path, "study", directions=("maximize",), names=SPACE.names, domains=SPACE.domains)
        left_out += any(trial.told is None for trial in record.trials())
        assert essence(run(path, slots=4, racing=racing)) == essence(whole)
    assert left_out > 15


def test_fewer_slots_finish_what_more_began(tmp_path):
    run(tmp_path / "j.log", trials=12, slots=6)
    lines = (tmp_path / "j.log").read_bytes().splitlines(keepends=True)
    (tmp_path / "j.log").write_bytes(b"".join(lines[:7]))  # six trials are out
    launchers = []
    trials = run(tmp_path / "j.log", trials=12, slots=2, launchers=launchers)
    assert launchers[0].most == 2
    assert sorted(launchers[0].ended) == list(range(12))
    assert all(trial.whole for trial in trials)


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


def test_a_failing_candidate_is_a_failed_trial(tmp_path):
    whole = run(tmp_path / "whole.log")
    first = [trial.recipe for trial in whole[:3]]

    def outcome(recipe, item):
        if recipe.digest == first[0]:
            raise RecipeError("it is not finite", fix="smaller weights")
        if recipe.digest == first[1]:
            raise ZeroDivisionError("division by zero")
        return math.nan if recipe.digest == first[2] else bowl(recipe, item)

    trials = run(tmp_path / "j.log", Formula(outcome))
    assert [trial.score is None for trial in trials[:5]] == [True, True, True, False, False]
    assert [trial.failure for trial in trials[:4]] == [
        "it is not finite",
        "division by zero",
        "the merged model's outputs are not finite",
        None,
    ]
    assert [(trial.items, trial.whole, trial.values) for trial in trials[:3]] == [(0, False, ())] * 3
    # a budget would end even if all failed
    assert all(trial.cost == 20 for trial in trials)
    again = run(tmp_path / "j.log", Formula(outcome), trials=35)
    assert essence(again[:30]) == essence(trials)


def test_a_recipe_the_method_refuses_is_a_failed_trial(tmp_path):
    def outcome(recipe, item):
        raise AssertionError("never reached")

    refusing = SearchSpace(dict(SPACE.skeleton) | {"seed": "x"}, SPACE.knobs, SPACE.methods)
    for slots in (0, 3):
        trials = run(
            tmp_path / f"{slots}.log",
            Formula(outcome),
            space=refusing,
            algorithm="random",
            trials=5,
            slots=slots,
        )
        assert all(trial.score is None and "seed" in trial.failure for trial in trials)
        assert [trial.recipe for trial in trials] == [""] * 5


def test_anything_else_ends_the_search_and_loses_nothing(tmp_path):
    calls = iter(range(1000))

    def outcome(recipe, item):
        if next(calls) == 150:
            raise CheckpointError("the disk is gone", fix="mount it")
        return bowl(recipe, item)

    with pytest.raises(CheckpointError):
        run(tmp_path / "j.log", Formula(outcome))
    assert essence(run(tmp_path / "j.log")) == essence(run(tmp_path / "whole.log"))


def test_another_seeds_record_is_not_continued(tmp_path):
    run(tmp_path / "j.log", trials=3, seed=1)
    before = (tmp_path / "j.log").read_bytes()
    with pytest.raises(StudyError, match="trial 0: recorded at"):
        run(tmp_path / "j.log", trials=5, seed=2)
    assert (tmp_path / "j.log").read_bytes() == before


def test_references_are_tried_first(tmp_path):
    good, bad = candidate(0.7, 0.7, 0.7), candidate(3.0, 3.0, 3.0)
    references = [Reference("good", good), Reference("bad", bad)]
    trials = run(tmp_path / "j.log", references=references, racing=True, trials=10)
    assert [trial.origin for trial in trials[:3]] == ["reference: good", "reference: bad", "cma-es"]
    assert [trial.genome is None for trial in trials] == [True, True] + [False] * 8
    assert [trial.recipe for trial in trials[:2]] == [good.recipe.digest, bad.recipe.digest]
    # they are candidates like others: what comes after them races against the best
    assert best(trials).number == 0
    assert not trials[1].whole
    assert essence(run(tmp_path / "j.log", references=references, racing=True, trials=10)) == essence(trials)
    # and the algorithm is told nothing of them
    alone = run(tmp_path / "alone.log", trials=8)
    assert [trial.genome for trial in trials[2:]] == [trial.genome for trial in alone]


def test_a_reference_that_cannot_be_merged_is_a_failed_trial(tmp_path):
    def outcome(recipe, item):
        if recipe.digest == odd.recipe.digest:
            raise RecipeError("it does not fit", fix="leave it out")
        return bowl(recipe, item)

    odd = Candidate(candidate(0.1, 0.2, 0.3).recipe)
    trials = run(tmp_path / "j.log", Formula(outcome), references=[Reference("odd", odd)], trials=4)
    assert (trials[0].failure, trials[1].score is None) == ("it does not fit", False)
    assert run(tmp_path / "j.log", Formula(outcome), references=[Reference("odd", odd)], trials=4) == trials


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
    seconds: float


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
        return Finished(job.number, slope=Slope(0.25, job.genome, count, 0.1))


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


class Listening:
    """Asks for fixed points, and remembers what it is told."""

    def __init__(self, *points):
        self._points = list(points)
        self.told = []

    def ask(self, count=1, pending=()):
        return [Proposal(self._points.pop(0), "list")]

    def tell(self, proposal, outcome):
        self.told.append(outcome)


MIDDLE, CORNER = (0.4,) * 3, (1.0,) * 3


def test_what_the_algorithm_is_told(tmp_path):
    listening = Listening(MIDDLE, CORNER)
    asked = exam(Formula(smooth=True), count=40, shares=RUNGS)
    good, bad = run(tmp_path / "j.log", asked=asked, algorithm=listening, racing=True, trials=2)
    (first, second) = listening.told
    recipe = SPACE.recipe(good.genome)
    by_hash = sorted(asked.sections[0].items, key=lambda item: item.hash)
    losses = np.array([-bowl(recipe, item) for item in by_hash], np.float32)
    np.testing.assert_array_equal(first.items, losses)
    assert first.losses == (-good.score,)
    assert first.loss == pytest.approx(losses.mean(), rel=1e-6)
    assert first.smooth == pytest.approx(2 * losses.mean(), rel=1e-6)
    # the other was given up, and its loss is an estimate
    assert len(second.items) == bad.items == 4
    assert second.losses == (-bad.score,)
    assert bad.score < good.score
    # replayed, with the ledger lost, it is told the same
    again = Listening(MIDDLE, CORNER)
    run(tmp_path / "j.log", asked=asked, algorithm=again, racing=True, trials=2)
    for before, after in zip(listening.told, again.told, strict=True):
        assert (before.losses, before.smooth) == (after.losses, after.smooth)
        np.testing.assert_array_equal(before.items, after.items)


def test_a_failure_is_told_as_one(tmp_path):
    listening = Listening(MIDDLE)
    (trial,) = run(tmp_path / "j.log", Formula(lambda recipe, item: math.nan), algorithm=listening, trials=1)
    (outcome,) = listening.told
    assert outcome.failed
    assert outcome.losses == (math.inf,)
    assert (len(outcome.items), trial.score) == (0, None)


def test_each_task_may_be_an_objective(tmp_path):
    up = Formula(lambda recipe, item: 2.0, "up")
    down = Formula(lambda recipe, item: -bowl(recipe, item), "down", "minimize")
    asked = exam(up, down, objectives=True)
    listening = Listening(MIDDLE, CORNER)
    trials = run(tmp_path / "j.log", asked=asked, algorithm=listening, trials=2)
    for trial, outcome in zip(trials, listening.told, strict=True):
        mean = trial.values[1]
        assert trial.values == (2.0, pytest.approx(mean))
        # lower losses are better, whichever way the scores go
        assert outcome.losses == (-2.0, mean)
        # the score of the whole is what the exam says: up is better
        assert trial.score == pytest.approx((2.0 - mean) / 2, rel=1e-6)
    assert trials[0].score > trials[1].score
    again = run(tmp_path / "j.log", asked=asked, algorithm=Listening(MIDDLE, CORNER), trials=2)
    assert again == trials


def test_several_objectives_are_searched_and_continued(tmp_path):
    one = Formula(lambda recipe, item: bowl(recipe, item), "one")  # noqa: PLW0108
    other = Formula(lambda recipe, item: recipe.slices[0].sources[0].parameters["weight"], "other")
    asked = exam(one, other, count=10, objectives=True)
    whole = run(tmp_path / "whole.log", asked=asked, algorithm="nsga2", trials=40)
    run(tmp_path / "parts.log", asked=asked, algorithm="nsga2", trials=23)
    assert essence(run(tmp_path / "parts.log", asked=asked, algorithm="nsga2", trials=40)) == essence(whole)
    assert all(len(trial.values) == 2 for trial in whole)


class Waiting(Listening):
    """Waits for every second trial before it asks on."""

    def ask(self, count=1, pending=()):
        return [] if len(pending) == 2 else super().ask(count, pending)


def test_an_algorithm_may_wait_for_what_is_out(tmp_path):
    points = [(place / 20,) * 3 for place in range(9)]
    launchers = []
    trials = run(tmp_path / "j.log", algorithm=Waiting(*points), trials=9, slots=4, launchers=launchers)
    assert launchers[0].most == 2
    assert [trial.genome for trial in trials] == [SPACE.decode(point) for point in points]
    assert run(tmp_path / "j.log", algorithm=Waiting(*points), trials=9, slots=4) == trials


def test_methods_are_recorded_and_replayed(tmp_path):
    import optuna

    data = dict(SPACE.skeleton) | {"merge_method": {"search": ["task_arithmetic", "ties", "model_stock"]}}
    space = SearchSpace.open(data)

    def outcome(recipe, item):
        weights = [source.parameters.get("weight", 0.0) for source in recipe.slices[0].sources]
        return (recipe.merge_method == "ties") - sum((weight - 0.7) ** 2 for weight in weights)

    whole = run(tmp_path / "whole.log", Formula(outcome), space=space, algorithm="random")
    assert {trial.genome[0] for trial in whole} == {"task_arithmetic", "ties", "model_stock"}
    assert best(whole).genome[0] == "ties"
    run(tmp_path / "parts.log", Formula(outcome), space=space, algorithm="random", trials=11)
    parts = run(tmp_path / "parts.log", Formula(outcome), space=space, algorithm="random")
    assert essence(parts) == essence(whole)
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "whole.log"))
    study = optuna.load_study(study_name="study", storage=optuna.storages.JournalStorage(backend))
    choice = optuna.distributions.CategoricalDistribution(("task_arithmetic", "ties", "model_stock"))
    assert study.trials[0].distributions["merge_method"] == choice
    assert study.best_params["merge_method"] == "ties"


def test_progress_counts_and_keeps_the_best(tmp_path):
    run(tmp_path / "j.log", trials=4)
    seen = []
    trials = run(tmp_path / "j.log", trials=9, progress=seen.append)
    assert [progress.trial for progress in seen] == [5, 6, 7, 8, 9]
    assert [progress.spent for progress in seen] == [100, 120, 140, 160, 180]
    assert [progress.share for progress in seen] == [n / 9 for n in (5, 6, 7, 8, 9)]
    assert seen[-1].best == max(trial.score for trial in trials)
    assert [progress.score for progress in seen] == [trial.score for trial in trials[4:]]
    assert all(progress.seconds_left >= 0 for progress in seen)
    assert seen[-1].seconds_left == 0


def test_progress_by_budget(tmp_path):
    seen = []
    trials = run(tmp_path / "j.log", budget=300, racing=True, progress=seen.append)
    assert [progress.trial for progress in seen] == list(range(1, len(trials) + 1))
    assert seen[-1].spent == sum(trial.cost for trial in trials)
    assert [progress.share for progress in seen] == [progress.spent / 300 for progress in seen]
    assert all(math.isfinite(progress.seconds_left) for progress in seen)


def test_times_are_kept(tmp_path):
    begin = time.perf_counter()
    trials = run(tmp_path / "j.log", trials=3)
    spent = time.perf_counter() - begin
    parts = [(trial.build_seconds, trial.score_seconds, trial.overhead_seconds) for trial in trials]
    assert all(second > 0 for trial in parts for second in trial)
    assert sum(map(sum, parts)) <= spent
    assert run(tmp_path / "j.log", trials=3) == trials


def search_slowly(home: Path) -> None:
    """What is killed: a search that writes down what it asks."""

    def outcome(recipe, item):
        time.sleep(0.0002)
        log.write(f"{recipe.digest} {item.hash}\n")
        return bowl(recipe, item)

    with (home / "asked.log").open("a", buffering=1) as log, Ledger(home / "ledger.sqlite") as ledger:
        run(home / "journal.log", Formula(outcome), trials=100, racing=True, ledger=ledger)


def test_killed_at_random_moments_it_ends_where_it_would_have_ended(tmp_path):
    """SIGKILL in the middle of asking, scoring, keeping, appending: nothing lost, nothing asked twice."""
    dice, context = random.Random(11), multiprocessing.get_context("fork")
    whole = run(tmp_path / "whole.log", trials=100, racing=True)
    home = tmp_path / "killed"
    home.mkdir()
    kills, known, cut_short = 0, [], 0
    while True:
        process = context.Process(target=search_slowly, args=(home,))
        process.start()
        process.join(dice.uniform(0.01, 0.1) if kills < 20 else None)
        if process.exitcode == 0:
            break
        process.kill()
        process.join()
        kills += 1
        trials = Record(
            home / "journal.log", "study", directions=("maximize",), names=SPACE.names, domains=SPACE.domains
        ).trials()
        assert essence(trials)[: len(known)] == known
        known = essence(trial for trial in trials if trial.told is not None)
        assert len(trials) - len(known) <= 1
        cut_short += len(known) < len(trials)
    assert kills > 5
    assert cut_short
    assert essence(run(home / "journal.log", trials=100, racing=True)) == essence(whole)
    asked = (home / "asked.log").read_text().splitlines()
    # a kill before the ledger's entry may cost the answers to one rung, never recorded ones
    assert len(dict.fromkeys(asked)) == sum(trial.cost for trial in whole)
    assert len(asked) - len(dict.fromkeys(asked)) <= 6 * kills
