"""What a front leaves free, against brute force."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest

from mergery.evolve.algorithms.gaussian.boxes import free_boxes


def by_inclusion_and_exclusion(losses, reference):
    """Volume of a union of boxes [row, reference]."""
    total = 0.0
    for size in range(1, len(losses) + 1):
        for rows in combinations(losses, size):
            total -= (-1) ** size * np.maximum(reference - np.max(rows, axis=0), 0).prod()
    return total


@pytest.mark.parametrize("objectives", [1, 2, 3, 4])
@pytest.mark.parametrize("seed", range(4))
def test_free_boxes_are_all_but_the_dominated_volume(objectives, seed):
    generator = np.random.default_rng(seed)
    losses = generator.random((9, objectives))
    losses[3] = losses[2]
    losses[5, 0] = losses[6, 0]
    reference = np.full(objectives, 0.9)
    lower, upper = free_boxes(losses, reference)
    free = np.maximum(upper - np.maximum(lower, 0), 0).prod(1).sum()
    dominated = by_inclusion_and_exclusion(losses, reference)
    assert free == pytest.approx(0.9**objectives - dominated)


def test_all_is_free_where_nothing_lies_below_the_reference():
    for losses in (np.array([[0.5, 2.0], [1.0, 0.1]]), np.empty((0, 2))):
        lower, upper = free_boxes(losses, np.array([1.0, 1.0]))
        assert lower.tolist() == [[-np.inf, -np.inf]]
        assert upper.tolist() == [[1.0, 1.0]]


@pytest.mark.parametrize("objectives", [2, 3])
def test_free_boxes_cover_once_what_is_not_dominated(objectives):
    generator = np.random.default_rng(objectives)
    losses = generator.random((12, objectives))
    losses[4, 1] = losses[5, 1]
    reference = np.full(objectives, 0.8)
    lower, upper = free_boxes(losses, reference)
    asked = generator.uniform(-0.2, 1.0, (4000, objectives))
    inside = ((lower < asked[:, None]) & (asked[:, None] <= upper)).all(2).sum(1)
    dominated = ((losses <= asked[:, None]) & (losses < reference)).all(2).any(1)
    np.testing.assert_array_equal(inside, ~dominated & (asked <= reference).all(1))
