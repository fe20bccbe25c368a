from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mergery.evaluate.intervals import Z_95, bootstrap_mean, paired_bootstrap, wilson


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        # R. G. Newcombe, Statistics in Medicine 17 (1998), 857-872, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0000, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_gives_the_published_intervals(successes, trials, low, high):
    interval = wilson(successes, trials)
    assert (round(interval.low, 4), round(interval.high, 4)) == (low, high)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_ends_are_where_the_score_test_just_rejects(case):
    successes, trials = case
    interval = wilson(successes, trials)
    share = successes / trials
    assert 0 <= interval.low <= share <= interval.high <= 1
    for end in (interval.low, interval.high):
        if 0 < end < 1:
            z = abs(share - end) / math.sqrt(end * (1 - end) / trials)
            assert z == pytest.approx(Z_95, rel=1e-6)


@pytest.mark.parametrize(("successes", "trials"), [(-1, 3), (4, 3), (0, 0)])
def test_wilson_refuses_what_is_no_proportion(successes, trials):
    with pytest.raises(ValueError, match="successes of"):
        wilson(successes, trials)


def test_the_bootstrap_agrees_with_the_normal_theory():
    values = np.random.default_rng(1).normal(2.0, 3.0, 2000)
    interval = bootstrap_mean(values)
    spread = Z_95 * values.std() / math.sqrt(len(values))
    assert interval.estimate == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - spread, abs=0.05 * spread)
    assert interval.high == pytest.approx(values.mean() + spread, abs=0.05 * spread)


def test_pairing_removes_what_the_items_share():
    generator = np.random.default_rng(2)
    hard = generator.normal(0, 10, 500)
    one, other = hard + generator.normal(0.5, 0.1, 500), hard
    interval = paired_bootstrap(one, other)
    assert 0.45 < interval.low < interval.estimate < interval.high < 0.55
    assert interval == paired_bootstrap(one, other)
    assert interval != paired_bootstrap(one, other, seed=1)


def test_the_bootstrap_works_in_pieces(monkeypatch):
    values = np.arange(50.0)
    whole = bootstrap_mean(values, resamples=1000)
    monkeypatch.setattr("mergery.evaluate.intervals._CHUNK", 300)
    assert bootstrap_mean(values, resamples=1000) == whole


def test_a_constant_has_no_spread():
    interval = bootstrap_mean([1.0, 1.0, 1.0])
    assert (interval.low, interval.high) == (1.0, 1.0)


def test_outcomes_must_match():
    with pytest.raises(ValueError, match="different items"):
        paired_bootstrap([1.0, 0.0], [1.0])
    with pytest.raises(ValueError, match="one number per item"):
        bootstrap_mean([])
