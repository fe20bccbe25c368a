"""Crossover and mutation against the distributions that their papers write down."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mergery.evolve.algorithms.variation import bred, polynomial_mutation, simulated_binary_crossover

N = 20_000


def distance(sample, cumulative) -> float:
    """Kolmogorov's: the largest gap between a sample's distribution and the true one."""
    ordered = np.sort(sample)
    steps = np.arange(len(ordered) + 1) / len(ordered)
    true = np.array([cumulative(value) for value in ordered])
    return max(np.abs(true - steps[1:]).max(), np.abs(true - steps[:-1]).max())


def spread(beta: float, eta: float) -> float:
    """P(spread factor <= beta) of SBX without walls (Deb and Agrawal 1995, equations 6 and 7, integrated)."""
    return 0.5 * beta ** (eta + 1) if beta <= 1 else 1 - 0.5 * beta ** -(eta + 1)


@pytest.mark.parametrize(("low", "high", "eta"), [(0.49, 0.51, 20.0), (0.05, 0.45, 2.0), (0.6, 0.9, 5.0)])
@pytest.mark.parametrize("swapped", [False, True])
def test_children_lie_as_far_out_as_sbx_says_cut_off_at_the_walls(low, high, eta, swapped):
    one, other = np.full(N, high if swapped else low), np.full(N, low if swapped else high)
    child = simulated_binary_crossover(one, other, np.random.default_rng(1), eta=eta)
    assert child.min() >= 0
    assert child.max() <= 1
    crossed = child[child != one]
    # half of the variables cross; of those, half lie on either side
    assert len(crossed) / N == pytest.approx(0.5, abs=0.02)
    for side, room in (
        (crossed[crossed < (low + high) / 2], low),
        (crossed[crossed > (low + high) / 2], 1 - high),
    ):
        assert len(side) / len(crossed) == pytest.approx(0.5, abs=0.03)
        beta = np.abs(side - (low + high) / 2) / ((high - low) / 2)
        widest = 1 + 2 * room / (high - low)
        assert beta.max() <= widest * (1 + 1e-9)
        gap = distance(beta, lambda value, widest=widest: spread(value, eta) / spread(widest, eta))
        assert gap < 1.95 / math.sqrt(len(beta))


def test_equal_parents_have_no_children_but_themselves():
    one = np.linspace(0, 1, 50)
    assert (
        simulated_binary_crossover(one, one.copy(), np.random.default_rng(0), eta=15).tolist() == one.tolist()
    )


@pytest.mark.parametrize(("value", "eta"), [(0.5, 20.0), (0.02, 5.0), (0.97, 5.0), (0.0, 20.0), (1.0, 3.0)])
def test_mutants_lie_as_far_out_as_the_polynomial_says_cut_off_at_the_walls(value, eta):
    mutants = polynomial_mutation(np.full(N, value), np.random.default_rng(2), eta=eta, rate=1.0)
    assert mutants.min() >= 0
    assert mutants.max() <= 1
    for side, room in (
        (value - mutants[mutants < value], value),
        (mutants[mutants > value] - value, 1 - value),
    ):
        if room == 0:
            assert len(side) == 0
            continue
        assert len(side) / N == pytest.approx(0.5, abs=0.02)
        # density (eta + 1)(1 - step)^eta up to the wall
        whole = 1 - (1 - room) ** (eta + 1)
        gap = distance(side, lambda step, whole=whole: (1 - (1 - step) ** (eta + 1)) / whole)
        assert gap < 1.95 / math.sqrt(len(side))


def test_as_many_variables_mutate_as_the_rate_says():
    point = np.full(N, 0.4)
    moved = polynomial_mutation(point, np.random.default_rng(3), eta=20, rate=0.1) != point
    assert moved.mean() == pytest.approx(0.1, abs=0.01)


def test_choices_are_either_parents_or_any():
    one, other, choices = np.full(4, 0.1), np.full(4, 0.9), (2, 0, 2, 0)
    generator = np.random.default_rng(4)
    children = np.array(
        [bred(one, other, choices, generator, crossing=1.0, etas=(20.0, 20.0)) for _ in range(4000)]
    )
    for column in (children[:, 0], children[:, 2]):
        assert (column == 0.1).mean() == pytest.approx(0.375, abs=0.03)
        assert (column == 0.9).mean() == pytest.approx(0.375, abs=0.03)
        rest = column[(column != 0.1) & (column != 0.9)]
        assert distance(rest, lambda value: value) < 1.95 / math.sqrt(len(rest))


def test_without_a_crossing_the_child_is_a_mutant_of_the_first():
    one, other = np.full(5, 0.3), np.full(5, 0.8)
    generator = np.random.default_rng(5)
    children = np.array(
        [bred(one, other, (3, 0, 0, 0, 0), generator, crossing=0.0, etas=(20.0, 20.0)) for _ in range(2000)]
    )
    assert (children == 0.3).mean(axis=0) == pytest.approx([0.8] * 5, abs=0.04)
    assert np.abs(children[:, 1:] - 0.3).max() < 0.4
