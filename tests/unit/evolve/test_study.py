"""The loop: what is asked, recorded and told."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from mergery.errors import CheckpointError, RecipeError
from mergery.evolve import SearchSpace
from mergery.evolve.algorithms import Proposal
from mergery.evolve.candidate import Candidate
from mergery.evolve.study import Reference
from unit.evolve.formulas import SPACE, Formula, bowl, candidate, exam
from unit.evolve.studies import RUNGS, best, essence, run

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")


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


def test_times_are_kept(tmp_path):
    begin = time.perf_counter()
    trials = run(tmp_path / "j.log", trials=3)
    spent = time.perf_counter() - begin
    parts = [(trial.build_seconds, trial.score_seconds, trial.overhead_seconds) for trial in trials]
    assert all(second > 0 for trial in parts for second in trial)
    assert sum(map(sum, parts)) <= spent
    assert run(tmp_path / "j.log", trials=3) == trials
