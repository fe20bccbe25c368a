"""TPE: Optuna's, asked and told through our protocol."""

from __future__ import annotations

import math

import numpy as np
import optuna
import pytest

from mergery.evolve.algorithms import AlgorithmSettings, Outcome, Problem, get_algorithm
from mergery.evolve.algorithms.pareto import hypervolume
from mergery.evolve.testing import bowl, told


def begin(problem, seed=0):
    return get_algorithm("tpe").start(problem, AlgorithmSettings(seed=seed))


@pytest.fixture
def quiet():
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    yield
    optuna.logging.set_verbosity(before)


def test_its_points_are_those_of_a_plain_optuna_study(quiet):
    study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=7))
    study.enqueue_trial({"a": 0.9, "b": 0.1})
    run = begin(Problem((0.9, 0.1)), seed=7)
    for _ in range(40):
        trial = study.ask()
        point = tuple(trial.suggest_float(name, 0, 1) for name in "ab")
        (proposal,) = run.ask()
        assert proposal.point == point
        study.tell(trial, bowl(point))
        run.tell(proposal, told(proposal, bowl))


def test_it_beats_random_search_on_a_bowl():
    best = {}
    for name in ("tpe", "random"):
        for seed in range(5):
            run = get_algorithm(name).start(Problem((0.9,) * 5), AlgorithmSettings(seed=seed))
            losses = []
            for _ in range(100):
                (proposal,) = run.ask()
                losses.append(bowl(proposal.point))
                run.tell(proposal, told(proposal, bowl))
            best.setdefault(name, []).append(min(losses))
    assert max(best["tpe"]) < min(best["random"])
    assert np.mean(best["tpe"]) < np.mean(best["random"]) / 3


def test_the_start_is_tried_first_once():
    first = begin(Problem((0.3, 0.6), choices=(2, 0), known=(("uniform", (0.2, 0.2)),))).ask(3)
    assert [proposal.origin for proposal in first] == ["start", "tpe", "tpe"]
    assert first[0].point == (0.3, 0.6)
    assert len({proposal.point for proposal in first} - {(0.2, 0.2)}) == 3


def test_points_that_are_out_are_kept_away_from():
    run = begin(Problem((0.9, 0.9)), seed=1)
    for _ in range(30):
        (proposal,) = run.ask()
        run.tell(proposal, told(proposal, bowl))
    out = np.array([proposal.point for proposal in run.ask(8)])
    gaps = np.abs(out[:, None] - out).max(axis=2) + np.eye(8)
    assert gaps.min() > 1e-3


def test_equal_points_that_are_out_together_are_told_one_after_the_other():
    run = begin(Problem((0.75,), choices=(2,)), seed=2)
    out = list(run.ask(12))
    assert len({proposal.point for proposal in out}) == 2
    for proposal in reversed(out):
        run.tell(proposal, told(proposal, bowl))
    with pytest.raises(IndexError):
        run.tell(out[0], told(out[0], bowl))


def test_failures_are_kept_away_from():
    run, failed = begin(Problem((0.5,) * 3), seed=3), []
    for _ in range(80):
        (proposal,) = run.ask()
        fails = proposal.point[0] > 0.6
        failed.append(fails)
        run.tell(proposal, Outcome((math.inf if fails else bowl(proposal.point),)))
    assert sum(failed[-40:]) < 3 <= sum(failed[:20])


def test_the_best_of_several_choices_is_found():
    run, values = begin(Problem((0.5, 0.5), choices=(4, 0)), seed=4), []
    for _ in range(60):
        (proposal,) = run.ask()
        value = int(4 * proposal.point[0])
        assert proposal.point[0] in (0.5, (value + 0.5) / 4)
        values.append(value)
        run.tell(proposal, Outcome((abs(value - 2) + bowl(proposal.point[1:]),)))
    assert set(values[:20]) == {0, 1, 2, 3}
    assert values[-30:].count(2) > 15


def test_a_front_of_two_losses_covers_more_than_that_of_random_search():
    volumes = {}
    for name in ("tpe", "random"):
        for seed in range(3):
            run = get_algorithm(name).start(Problem((0.5,) * 5, objectives=2), AlgorithmSettings(seed=seed))
            losses = []
            for number in range(80):
                (proposal,) = run.ask()
                point = np.array(proposal.point)
                losses.append(tuple(float(((point - centre) ** 2).mean()) for centre in (0.3, 0.7)))
                failed = number % 9 == 8
                run.tell(proposal, Outcome((math.inf, math.nan) if failed else losses[-1]))
            volumes.setdefault(name, []).append(hypervolume(losses, (0.3, 0.3)))
    assert np.mean(volumes["tpe"]) > 1.05 * np.mean(volumes["random"])


def test_it_says_nothing_and_leaves_optunas_verbosity_alone(capfd):
    before = optuna.logging.get_verbosity()
    run = begin(Problem((0.5,) * 2))
    for _ in range(15):
        (proposal,) = run.ask()
        run.tell(proposal, told(proposal, bowl))
    assert capfd.readouterr() == ("", "")
    assert optuna.logging.get_verbosity() == before
