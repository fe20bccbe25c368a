"""mergenetic's search: its grid, its elitism, what it breeds."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mergery.evolve.algorithms import AlgorithmSettings, Outcome, Problem, get_algorithm
from mergery.evolve.testing import bowl, told


def begin(problem, **settings):
    return get_algorithm("ga").start(problem, AlgorithmSettings(**settings))


def asked(run, rounds, loss=bowl):
    points = []
    for _ in range(rounds):
        (proposal,) = run.ask()
        points.append(proposal.point)
        run.tell(proposal, told(proposal, loss))
    return points


@pytest.mark.parametrize("seed", range(3))
def test_all_points_lie_on_a_grid_of_eleven_values_a_knob(seed):
    points = asked(begin(Problem((0.123,) * 4), seed=seed), 150)
    assert {value for point in points for value in point} <= {level / 10 for level in range(11)}
    # the first generation holds no point twice and is random
    assert len(dict.fromkeys(points[:10])) == 10
    assert len({value for point in points[:10] for value in point}) > 6


def test_a_dimension_of_choices_has_one_level_for_each():
    points = asked(begin(Problem((0.5, 0.5), choices=(3, 0))), 60, lambda point: bowl(point[1:]))
    assert {point[0] for point in points} == {0.5 / 3, 0.5, 2.5 / 3}
    assert {point[1] for point in points} <= {level / 10 for level in range(11)}


def test_a_generation_is_ten_points_and_no_child_is_a_parent_or_a_sibling():
    one, other = (begin(Problem((0.5,) * 3), seed=1) for _ in range(2))
    first = []
    for number in range(10):
        (proposal,) = one.ask()
        assert list(other.ask()) == [proposal]
        first.append(proposal.point)
        one.tell(proposal, Outcome((float(number),)))
        other.tell(proposal, Outcome((-float(number),)))
    children = [proposal.point for proposal in one.ask(10)]
    assert children != [proposal.point for proposal in other.ask(10)]
    assert len(dict.fromkeys(first + children)) == 20


def test_the_best_lives_on_and_children_come_of_it():
    run = begin(Problem((0.5,) * 6), seed=2, population=6)
    for _ in range(6):
        (proposal,) = run.ask()
        run.tell(proposal, told(proposal, bowl))
    best = math.inf
    medians = []
    for _ in range(20):
        losses = [bowl(proposal.point) for proposal in _generation(run, 6)]
        best = min([best, *losses])
        medians.append(float(np.median(losses)))
    # all that is bred comes near the bottom of the bowl on the grid
    assert best < 0.03
    assert np.mean(medians[-5:]) < np.mean(medians[:3]) / 3


def _generation(run, size):
    proposals = [run.ask()[0] for _ in range(size)]
    for proposal in proposals:
        run.tell(proposal, told(proposal, bowl))
    return proposals


def test_a_used_up_grid_does_not_end_the_search():
    # two candidates in all
    points = asked(begin(Problem((0.5,), choices=(2,))), 40, lambda point: point[0])
    assert {point for (point,) in points} == {0.25, 0.75}
    assert len(dict.fromkeys(asked(begin(Problem((0.5,))), 100, lambda point: 0.0))) == 11


def test_failures_lose_to_everything():
    run = begin(Problem((0.5,) * 3), seed=3)
    failed = []
    for _ in range(150):
        (proposal,) = run.ask()
        fails = proposal.point[0] < 0.55
        failed.append(fails)
        # what fails would have the lowest loss
        loss = math.nan if fails else bowl(proposal.point[1:]) + 1
        run.tell(proposal, Outcome((loss,)))
    assert sum(failed[-50:]) < 10 < sum(failed[:50])
