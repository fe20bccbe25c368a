"""Fronts against brute force, volumes against counting and against figures worked out by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from mergery.errors import RecipeError
from mergery.evolve.algorithms.pareto import (
    crowding_distance,
    front_indices,
    hypervolume,
    non_dominated_sort,
    pick,
)


def dominates(one, other) -> bool:
    return all(a <= b for a, b in zip(one, other, strict=True)) and any(
        a < b for a, b in zip(one, other, strict=True)
    )


def brute_ranks(rows) -> list[int]:
    ranks: dict[int, int] = {}
    for rank in itertools.count():
        left = [place for place in range(len(rows)) if place not in ranks]
        if not left:
            return [ranks[place] for place in range(len(rows))]
        front = [i for i in left if not any(dominates(rows[j], rows[i]) for j in left)]
        ranks |= dict.fromkeys(front, rank)
    raise AssertionError


def brute_volume(rows, corner) -> float:
    """Cells of the grid through all coordinates, each counted if some point dominates it."""
    rows = [row for row in rows if all(a < b for a, b in zip(row, corner, strict=True))]
    axes = [sorted({row[axis] for row in rows} | {corner[axis]}) for axis in range(len(corner))]
    total = 0.0
    for cell in itertools.product(*(range(len(axis) - 1) for axis in axes)):
        low = [axis[place] for axis, place in zip(axes, cell, strict=True)]
        high = [axis[place + 1] for axis, place in zip(axes, cell, strict=True)]
        if any(all(a <= b for a, b in zip(row, low, strict=True)) for row in rows):
            total += math.prod(b - a for a, b in zip(low, high, strict=True))
    return total


@pytest.mark.parametrize("objectives", [1, 2, 3, 5])
@pytest.mark.parametrize("levels", [3, 1000])
def test_ranks_are_those_of_brute_force(objectives, levels):
    # few levels: many ties and equal points
    for seed in range(5):
        rows = np.random.default_rng(seed).integers(0, levels, (40, objectives)).astype(float)
        expected = brute_ranks(rows.tolist())
        assert non_dominated_sort(rows).tolist() == expected
        assert front_indices(rows).tolist() == [i for i, rank in enumerate(expected) if rank == 0]


def test_failed_points_come_last_and_are_on_no_front():
    rows = [[math.inf, math.inf], [1.0, 2.0], [2.0, 1.0], [3.0, 3.0], [math.inf, math.inf]]
    assert non_dominated_sort(rows).tolist() == [2, 0, 0, 1, 2]
    assert front_indices(rows).tolist() == [1, 2]
    assert front_indices([[math.inf, math.inf]]).tolist() == []
    # better in one loss than all others, but there is no such model
    assert front_indices([[0.0, math.inf], [1.0, 1.0]]).tolist() == [1]


def test_no_points_have_no_ranks_no_front_and_no_volume():
    none = np.empty((0, 3))
    assert non_dominated_sort(none).tolist() == front_indices(none).tolist() == []
    assert crowding_distance(none).tolist() == []
    assert hypervolume(none, (1, 1, 1)) == 0


def test_crowding_by_hand():
    # first loss 0, 1, 4, 10 spans 10; second 8, 3, 2, 0 spans 8; given in another order
    rows = [[4.0, 2.0], [0.0, 8.0], [10.0, 0.0], [1.0, 3.0]]
    inner, outer = (10 - 1) / 10 + (3 - 0) / 8, (4 - 0) / 10 + (8 - 2) / 8
    assert crowding_distance(rows).tolist() == pytest.approx([inner, math.inf, math.inf, outer])


def test_crowding_takes_no_account_of_an_objective_in_which_all_are_equal():
    assert crowding_distance([[0.0, 5.0], [1.0, 5.0], [3.0, 5.0]]).tolist() == [math.inf, 1.0, math.inf]
    assert crowding_distance([[1.0, 1.0], [1.0, 1.0]]).tolist() == [0.0, 0.0]
    assert crowding_distance([[math.inf, math.inf]] * 3).tolist() == [0.0] * 3


def test_hypervolume_by_hand():
    assert hypervolume([[2.0], [5.0]], [7.0]) == 5.0
    # three steps of a stair: 1 x 4 + 1 x 3 + 2 x 1, one dominated point, one outside
    stair = [[1.0, 3.0], [2.0, 2.0], [4.0, 1.0], [4.5, 4.5], [0.0, 9.0]]
    assert hypervolume(stair, [5.0, 5.0]) == (5 - 1) * 2 + (5 - 2) * 1 + (5 - 4) * 1
    # two boxes of 1 x 2 x 2 and 2 x 1 x 2 that share 1 x 1 x 2
    assert hypervolume([[2.0, 1.0, 1.0], [1.0, 2.0, 1.0]], [3.0, 3.0, 3.0]) == 4 + 4 - 2
    # a cube and another that reaches into it: 8 + 8 - 1
    assert hypervolume([[0.0, 0.0, 1.0], [1.0, 1.0, 0.0]], [2.0, 2.0, 3.0]) == 4 * 2 + 1 * 3 - 1 * 2
    assert hypervolume([[0.5] * 6], [1.0] * 6) == 0.5**6


@pytest.mark.parametrize(("objectives", "points"), [(2, 30), (3, 14), (4, 9), (5, 6)])
@pytest.mark.parametrize("levels", [4, 1000])
def test_hypervolume_is_that_of_counting_cells(objectives, points, levels):
    for seed in range(3):
        rows = np.random.default_rng(seed).integers(0, levels, (points, objectives)) / levels
        corner = [0.9] * objectives
        expected = brute_volume(rows.tolist(), corner)
        assert hypervolume(rows, corner) == pytest.approx(expected, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("objectives", [3, 5])
def test_hypervolume_is_that_of_monte_carlo(objectives):
    dice = np.random.default_rng(7)
    rows = dice.random((25, objectives))
    darts = dice.random((40_000, objectives))
    hit = np.zeros(len(darts), dtype=bool)
    for row in rows:
        hit |= (row <= darts).all(axis=1)
    error = math.sqrt(hit.mean() * (1 - hit.mean()) / len(darts))
    assert abs(hypervolume(rows, [1.0] * objectives) - hit.mean()) < 4 * error


def test_hypervolume_of_a_line_and_of_a_sphere_comes_near_the_integral():
    share = np.linspace(0, 1, 401)
    assert hypervolume(np.stack([share, 1 - share], axis=1), [1, 1]) == pytest.approx(1 / 2, abs=2e-3)
    # losses on an eighth of a sphere around the reference's opposite: what is not dominated is the eighth
    one, two = np.meshgrid(np.linspace(0, np.pi / 2, 30), np.linspace(0, np.pi / 2, 30))
    sphere = np.stack([np.cos(one) * np.cos(two), np.cos(one) * np.sin(two), np.sin(one)], axis=-1)
    assert hypervolume(sphere.reshape(-1, 3), [1, 1, 1]) == pytest.approx(1 - np.pi / 6, abs=0.03)


FRONT = [[0.0, 10.0], [1.0, 4.0], [2.0, 3.0], [6.0, 1.0], [10.0, 0.0]]


def test_pick_takes_the_knee_without_a_preference():
    # scaled: worst losses 1, .4, .3, .6, 1
    assert pick(FRONT) == 2
    assert pick(FRONT, [1, 1]) == pick(FRONT, [5, 5]) == 2


def test_pick_prefers_what_it_is_told_to():
    assert pick(FRONT, [1, 0]) == 0
    assert pick(FRONT, [0, 1]) == 4
    chosen = [pick(FRONT, [weight, 1 - weight]) for weight in np.linspace(0, 1, 50)]
    # the more the first objective matters, the better it is
    assert all(FRONT[one][0] >= FRONT[other][0] for one, other in itertools.pairwise(chosen))
    assert list(dict.fromkeys(chosen)) == [4, 3, 2, 1, 0]


def test_pick_minds_no_scale():
    assert pick([[1e-6 * a, 1e6 * b + 5] for a, b in FRONT]) == pick(FRONT)


def test_pick_takes_no_dominated_point_among_equal_distances():
    assert pick([[0.0, 5.0], [0.0, 1.0], [3.0, 0.0]], [1, 0]) == 1
    # the same worst loss, and better in another
    assert pick([[0.0, 0.5, 1.0], [0.0, 0.2, 1.0], [1.0, 0.5, 0.0]], [1, 1, 1]) == 1


def test_pick_of_one_point_and_of_equal_points_is_the_first():
    assert pick([[3.0, 4.0]]) == 0
    assert pick([[3.0, 4.0]] * 3, [0.2, 0.8]) == 0


@pytest.mark.parametrize("preference", [[1.0], [1.0, 2.0, 3.0], [-1.0, 2.0], [math.nan, 1.0], [0.0, 0.0]])
def test_a_preference_that_does_not_fit_says_what_to_give(preference):
    with pytest.raises(RecipeError, match="preference") as caught:
        pick(FRONT, preference)
    assert "give" in caught.value.fix


def test_what_is_no_matrix_of_losses_is_refused():
    for rows in ([1.0, 2.0], [[math.nan, 1.0]]):
        for function in (non_dominated_sort, front_indices, crowding_distance, pick):
            with pytest.raises(ValueError, match="matrix"):
                function(rows)
    with pytest.raises(ValueError, match="reference"):
        hypervolume([[1.0, 2.0]], [1.0])
    for rows in (np.empty((0, 2)), [[math.inf, 1.0]]):
        with pytest.raises(ValueError, match="front"):
            pick(rows)
