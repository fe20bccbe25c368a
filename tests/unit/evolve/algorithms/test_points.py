"""First generations: what is known, and points that fill the cube."""

from __future__ import annotations

import numpy as np
import pytest

from mergery.evolve.algorithms import Problem
from mergery.evolve.algorithms.points import fresh, latin_hypercube, opening, snap


def dice(seed=0):
    return np.random.default_rng(seed)


@pytest.mark.parametrize(("count", "dimensions"), [(1, 1), (7, 3), (40, 2), (0, 4)])
def test_every_slice_of_every_edge_has_one_point(count, dimensions):
    points = latin_hypercube(count, dimensions, dice())
    assert points.shape == (count, dimensions)
    for column in points.T:
        assert sorted((column * count).astype(int).tolist()) == list(range(count))


def test_a_latin_hypercube_is_random_within_its_slices():
    points = np.concatenate([latin_hypercube(10, 2, dice(seed)) for seed in range(400)])
    offsets = points * 10 % 1
    assert abs(offsets.mean() - 0.5) < 0.02
    assert abs(np.corrcoef(points.T)[0, 1]) < 0.05


def test_the_opening_is_start_then_known_points_then_a_spread():
    problem = Problem((0.5, 0.5), known=(("uniform", (0.2, 0.2)), ("again", (0.5, 0.5)), ("sum", (0.9, 0.9))))
    first = opening(problem, 8, dice())
    assert [proposal.point for proposal in first[:3]] == [(0.5, 0.5), (0.2, 0.2), (0.9, 0.9)]
    assert [proposal.origin for proposal in first[:3]] == ["start", "known: uniform", "known: sum"]
    assert [proposal.origin for proposal in first[3:]] == ["latin hypercube"] * 5


def test_many_known_points_leave_room_for_a_spread():
    known = tuple((str(number), (number / 100,)) for number in range(20))
    first = opening(Problem((0.5,), known=known), 8, dice())
    assert len(first) == 1 + 20 + 4
    assert [proposal.origin for proposal in first].count("latin hypercube") == 4


def test_snapped_points_are_equal_exactly_if_their_candidates_are():
    problem = Problem((0.5,) * 3, choices=(3, 0, 2))
    assert snap(np.array([0.1, 0.1, 0.4]), problem) == pytest.approx((0.5 / 3, 0.1, 0.25))
    assert snap(np.array([1.0, 1.0, 1.0]), problem) == pytest.approx((2.5 / 3, 1.0, 0.75))
    for point in dice().random((200, 3)):
        snapped = snap(point, problem)
        for place, values in ((0, 3), (2, 2)):
            # the cell as Problem defines it, before and after
            assert int(values * snapped[place]) == min(values - 1, int(values * point[place]))
        assert snap(np.array(snapped), problem) == snapped
    assert snap(np.array([0.3, 0.7]), Problem((0.5, 0.5))) == (0.3, 0.7)


def test_fresh_points_are_unknown_or_none():
    problem = Problem((0.5,), choices=(4,))
    cells = [(0.125,), (0.375,), (0.625,), (0.875,)]
    generator = dice()
    for left in cells:
        known = [cell for cell in cells if cell != left]
        assert fresh(lambda: generator.random(1), known, problem) == left
    assert fresh(lambda: generator.random(1), cells, problem) is None
