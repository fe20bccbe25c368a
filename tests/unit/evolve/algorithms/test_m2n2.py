"""Natural niches: the paper's formulas, the archive's rules, two niches that stay alive."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mergery.evolve.algorithms import AlgorithmSettings, Outcome, Problem, get_algorithm
from mergery.evolve.algorithms import m2n2 as module
from mergery.evolve.algorithms.m2n2 import attraction, shared_fitness

SCORES = [[1.0, 0.0, 0.5, 0.0], [1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.25, 0.0]]


def begin(problem, **settings):
    return get_algorithm("m2n2").start(problem, AlgorithmSettings(**settings))


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_fitness_is_that_of_the_papers_sums(alpha):
    # z = 3, 1, 0.75, 0 and c = 1, 1, 0.5, 0; the last item counts for nothing
    expected = []
    for row in SCORES:
        terms = [
            row[j] * max(s[j] for s in SCORES) / sum(s[j] for s in SCORES) ** alpha
            for j in range(4)
            if sum(s[j] for s in SCORES)
        ]
        expected.append(sum(terms))
    assert shared_fitness(np.array(SCORES), alpha).tolist() == pytest.approx(expected)


def test_what_few_solve_is_worth_more():
    expected = [1 / 3 + 0.5 * 0.5 / 0.75, 1 / 3 + 1, 1 / 3 + 0.25 * 0.5 / 0.75]
    assert shared_fitness(np.array(SCORES), 1.0).tolist() == pytest.approx(expected)


def test_attraction_is_strength_where_the_first_parent_is_weak():
    # the second has only item 1 over the first; over the second, both others have item 2
    assert attraction(np.array(SCORES), 0).tolist() == pytest.approx([0, 1, 0])
    assert attraction(np.array(SCORES), 1).tolist() == pytest.approx([0.5 * 0.5 / 0.75, 0, 0.25 * 0.5 / 0.75])
    dice = np.random.default_rng(0).random((5, 9))
    total, most = dice.sum(axis=0), dice.max(axis=0)
    for first in range(5):
        expected = [
            sum(most[j] / total[j] * max(dice[mate, j] - dice[first, j], 0) for j in range(9))
            for mate in range(5)
        ]
        assert attraction(dice, first).tolist() == pytest.approx(expected)


def two_niches(point):
    """Losses of 20 items: 11 are solved near 0.2, 9 near 0.8, each within a distance of its own."""
    places = ((0.2, np.linspace(0.1, 0.5, 11)), (0.8, np.linspace(0.1, 0.5, 9)))
    far = [np.abs(np.array(point) - centre).max() > reach for centre, reach in places]
    return np.concatenate(far).astype(np.float32)


def last_specialists(name, seed, rounds=300):
    """How many items of each niche the best of the last hundred points solve."""
    run = get_algorithm(name).start(Problem((0.5,) * 3), AlgorithmSettings(seed=seed))
    solved = []
    for _ in range(rounds):
        (proposal,) = run.ask()
        items = two_niches(proposal.point)
        solved.append(1 - items)
        run.tell(proposal, Outcome((float(items.mean()),), items))
    rows = np.array(solved[-100:])
    return rows[:, :11].sum(axis=1).max() / 11, rows[:, 11:].sum(axis=1).max() / 9


def test_both_niches_live_on_where_a_genetic_algorithm_keeps_one():
    ours, plain = ([last_specialists(name, seed) for seed in range(8)] for name in ("m2n2", "ga"))
    both = [min(pair) > 0.7 for pair in ours]
    assert sum(both) >= 6
    assert sum(min(pair) > 0.7 for pair in plain) <= 1
    assert np.mean([min(pair) for pair in ours]) > np.mean([min(pair) for pair in plain]) + 0.3


def test_competition_is_what_keeps_them(monkeypatch):
    def covered(alpha):
        monkeypatch.setattr(module, "ALPHA", alpha)
        solved = []
        for seed in range(8):
            # both specialists are known, as single models are in a merge
            known = (("one", (0.2,) * 3), ("other", (0.8,) * 3))
            run = begin(Problem((0.5,) * 3, known=known), seed=seed)
            for _ in range(300):
                (proposal,) = run.ask()
                items = two_niches(proposal.point)
                run.tell(proposal, Outcome((float(items.mean()),), items))
            rows = np.array([1 - two_niches(point) for point in run.archive])
            assert len(rows) == 15
            solved.append(rows.max(axis=0).sum())
        return solved

    assert min(covered(1.0)) >= 18
    assert max(covered(0.0)) <= 16


def fill(run, outcomes):
    """Tell the next points these items, each a list or None for a failure."""
    points = []
    for items in outcomes:
        (proposal,) = run.ask()
        points.append(proposal.point)
        losses = (math.inf,) if items is None else (float(np.nanmean(items)),)
        run.tell(proposal, Outcome(losses, np.array(items or [], dtype=np.float32)))
    return points


def test_the_least_fit_leaves_and_failures_never_enter():
    run = begin(Problem((0.5,) * 2), population=3)
    points = fill(run, [[0, 1, 1], None, [0, 1, 1], [1, 0, 1]])
    assert run.archive == (points[0], points[2], points[3])
    # the third alone solves item 1, the first two share item 0; the fourth alone solves item 2
    more = fill(run, [[1, 1, 0]])
    assert run.archive == (points[0], points[3], more[0])
    # solves nothing
    fill(run, [[1, 1, 1]])
    assert run.archive == (points[0], points[3], more[0])


def test_items_that_were_not_asked_are_not_solved():
    run = begin(Problem((0.5,) * 2), population=2)
    points = fill(run, [[0.5, 0.5, 0.5], [0.0], [0.4, 0.4, 0.4]])
    # c = 1, .6, .6; z = 2.1, 1.1, 1.1: 0.5/2.1 + 1/1.1 .6 = 0.78 leaves, not 1/2.1 or 0.94
    assert 1 / 2.1 < 0.5 / 2.1 + 0.6 / 1.1
    assert run.archive == (points[0], points[2])


def test_losses_beyond_one_are_taken_as_log_likelihoods():
    run = begin(Problem((0.5,) * 2), population=2)
    # as 1 - loss, all but the third would score 0 everywhere, and the newest of the equal ones leave
    points = fill(run, [[9.0, 9.0], [2.0, 8.0], [8.0, 2.0]])
    assert run.archive == (points[1], points[2])


def test_items_without_an_answer_are_not_solved():
    run = begin(Problem((0.5,) * 2), population=2)
    points = fill(run, [[1.0, 1.0], [0.0, math.nan], [math.nan, 0.0]])
    assert run.archive == (points[1], points[2])


@pytest.mark.parametrize(
    ("depths", "groups"),
    [
        ((0.9, 0.1, 0.5, 0.1), ((1, 3), (2,), (0,))),
        ((), ((0,), (1,), (2,), (3,))),
        ((0.5,) * 4, ((0,), (1,), (2,), (3,))),
    ],
)
def test_children_mix_their_parents_at_a_ratio_and_its_rest_above_the_split(depths, groups):
    known = (("low", (0.0,) * 4), ("high", (1.0,) * 4))
    run = begin(Problem((0.5,) * 4, known=known, depths=depths), population=2, sigma=1e-9, seed=1)
    # start and the spread point fail; of two parents the one is drawn to the other
    fill(run, [None, [0, 1], [1, 0], None])
    assert run.archive == (known[0][1], known[1][1])
    splits = []
    for proposal in run.ask(200):
        child = np.array(proposal.point)
        levels = [child[list(group)] for group in groups]
        assert all(np.ptp(level) < 1e-7 for level in levels)
        means = np.array([level.mean() for level in levels])
        top = means[-1]
        below = int((np.abs(means - top) > 1e-7).sum())
        # what is below the split is mixed the other way round, and lies together
        assert means == pytest.approx(np.where(np.arange(len(means)) < below, 1 - top, top), abs=1e-7)
        splits.append(below)
    assert set(splits) == set(range(len(groups)))


def test_choices_are_taken_from_a_parent():
    known = (("low", (1 / 6, 0.0)), ("high", (5 / 6, 1.0)))
    run = begin(Problem((0.5, 0.5), choices=(3, 0), known=known), population=2, sigma=0.01, seed=1)
    fill(run, [None, [0, 1], [1, 0], None])
    values = [int(3 * proposal.point[0]) for proposal in run.ask(300)]
    assert values.count(1) < 12
    assert values.count(0) > 100 < values.count(2)


def test_noise_is_as_wide_as_sigma():
    problem = Problem((0.5, 0.5), known=(("also", (0.5, 0.5000001)),))
    run = begin(problem, population=2, sigma=0.07, seed=1)
    fill(run, [[0, 1], [1, 0], None])
    assert np.std([proposal.point for proposal in run.ask(2000)]) == pytest.approx(0.07, rel=0.05)


def test_without_items_losses_are_the_items():
    run = begin(Problem((0.5,) * 2, objectives=2), population=2)
    points = []
    for losses in ((0.9, 0.9), (0.1, 0.9), (0.9, 0.1)):
        (proposal,) = run.ask()
        points.append(proposal.point)
        run.tell(proposal, Outcome(losses))
    assert run.archive == (points[1], points[2])
