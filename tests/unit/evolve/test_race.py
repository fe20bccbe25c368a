"""Racing, against the paired test worked out by hand and against many synthetic candidates."""

from __future__ import annotations

import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mergery.evolve.race import RUNGS, Race

ITEMS = 400


def floats(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def by_hand(losses, best) -> tuple[float, float]:
    """Mean of the differences and its standard error, with one more difference of the largest size."""
    differences = [float(a) - float(b) for a, b in zip(losses, best, strict=False)]
    mean = statistics.fmean(differences)
    squares = [(value - mean) ** 2 for value in differences] + [max(map(abs, differences)) ** 2]
    return mean, math.sqrt(statistics.fmean(squares)) / math.sqrt(len(differences))


def test_the_paired_test_by_hand():
    best = floats(0, 0, 0, 0, 1, 1)
    # differences 1, 0, 0, 1: mean 1/2, squares 4/4 and the largest 1, so sqrt(2/5) / 2 = 0.316
    assert by_hand(floats(1, 0, 0, 1), best) == (0.5, pytest.approx(math.sqrt(0.4) / 2))
    assert Race(best).hope(floats(1, 0, 0, 1))  # 0.5 < 0.632
    # differences 1, 1, 1, 1: mean 1, no spread but that of one more: sqrt(1/5) / 2 = 0.224
    assert not Race(best).hope(floats(1, 1, 1, 1))
    # two such say too little: sqrt(1/3) / sqrt(2) = 0.408
    assert not Race(best).hope(floats(1, 1))
    assert Race(best).hope(floats(1))


@given(st.lists(st.sampled_from([-1.0, 0.0, 0.5, 1.0]), min_size=1, max_size=30), st.integers(0, 9))
def test_the_paired_test_on_any_losses(losses, seed):
    best = np.random.default_rng(seed).integers(0, 2, 30).astype(np.float32)
    mean, error = by_hand(losses, best)
    if abs(mean - 2 * error) > 1e-9:
        assert Race(best).hope(floats(*losses)) == (mean < 2 * error)


def test_there_is_hope_without_a_rival():
    assert Race().hope(floats(1e9))
    assert Race().estimate(floats(1, 2)) == 1.5


@pytest.mark.parametrize("outcome", [0.0, 1.0, -3.5])
def test_an_equal_candidate_is_never_given_up(outcome):
    for best in (np.full(9, outcome, np.float32), np.arange(9, dtype=np.float32) * outcome):
        assert all(Race(best).hope(best[:count]) for count in range(1, 10))


@given(st.lists(st.floats(-100, 100, width=32), min_size=2, max_size=20), st.floats(0, 10, width=32))
def test_a_candidate_that_is_nowhere_worse_is_never_given_up(losses, better):
    best = floats(*losses)
    assert all(Race(best).hope((best - np.float32(better))[:count]) for count in range(1, len(best) + 1))


def drawn(generator, chance, hardness, own=0.4):
    """Losses of a candidate that is right where its own luck and the item's ease allow it."""
    luck = np.where(generator.random(len(hardness)) < own, generator.random(len(hardness)), hardness)
    return (luck > chance).astype(np.float32)


def test_few_that_are_as_good_are_given_up_and_most_that_are_worse():
    generator = np.random.default_rng(1)
    ends = [round(share * ITEMS) for share in RUNGS[:-1]]
    given_up = {0.0: 0, 0.15: 0}
    saved = 0
    for _ in range(600):
        hardness = generator.random(ITEMS)
        race = Race(drawn(generator, 0.6, hardness))
        for worse in given_up:
            losses = drawn(generator, 0.6 - worse, hardness)
            end = next((end for end in ends if not race.hope(losses[:end])), ITEMS)
            given_up[worse] += end < ITEMS
            saved += (ITEMS - end) * (worse > 0)
    # one look has 2.3 %; four looks at data that overlap have less than four times as much
    assert given_up[0.0] / 600 < 0.075
    assert given_up[0.15] / 600 > 0.9
    assert saved / 600 > 0.5 * ITEMS


def test_the_estimate_is_right_on_average_and_knows_how_easy_the_first_items_are():
    generator = np.random.default_rng(2)
    errors, naive = [], []
    for _ in range(2000):
        # the first items are harder than the rest
        hardness = np.sort(generator.random(ITEMS))[::-1] * 0.5 + 0.5 * generator.random(ITEMS)
        best, losses = drawn(generator, 0.7, hardness), drawn(generator, 0.5, hardness)
        errors.append(Race(best).estimate(losses[:80]) - losses.mean())
        naive.append(losses[:80].mean() - losses.mean())
    assert abs(np.mean(naive)) > 0.2
    # what is left is the difference between the two on hard and on easy items
    assert abs(np.mean(errors)) < 0.25 * abs(np.mean(naive))
    errors.clear()
    for _ in range(2000):
        hardness = generator.random(ITEMS)
        best, losses = drawn(generator, 0.7, hardness), drawn(generator, 0.5, hardness)
        errors.append(Race(best).estimate(losses[:80]) - losses.mean())
    slack = 4 * np.std(errors) / math.sqrt(len(errors))
    assert abs(np.mean(errors)) < slack < 0.01


def test_the_estimate_of_one_that_was_asked_all_is_its_mean():
    best, losses = floats(1, 0, 0, 1), floats(0, 0, 1, 0)
    assert Race(best).estimate(losses) == 0.25
    # asked two: its mean 0, plus the best one's 0.5 over all less 0.5 over these two
    assert Race(best).estimate(losses[:2]) == 0.0
    assert Race(floats(1, 1, 0, 0)).estimate(floats(1, 0)) == 0.5 + 0.5 - 1.0
