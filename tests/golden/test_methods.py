"""The oldest methods against an independent float64 transcription of their papers' steps, entry by entry."""

from __future__ import annotations

import math

import numpy as np
import pytest

from splitmix import splitmix64

SHAPE = (12, 25)
N = SHAPE[0] * SHAPE[1]
WEIGHT = (0.9, -0.4, 1.3)
BASE = np.zeros(N)


@pytest.fixture(scope="module")
def tau() -> np.ndarray:
    return np.random.default_rng(3).normal(size=(3, N)).astype(np.float32)


def agree(got: np.ndarray, expected) -> None:
    np.testing.assert_allclose(got, np.asarray(expected, dtype=np.float64), rtol=2e-5, atol=2e-6)


def weighted_sums(rows, weight) -> list[float]:
    return [
        sum(w * float(x) for w, x in zip(weight, entry, strict=True)) for entry in zip(*rows, strict=True)
    ]


@pytest.mark.parametrize("normalize", [True, False])
def test_linear_is_the_weighted_mean(merge, tau, normalize):
    total = sum(WEIGHT) if normalize else 1.0
    expected = [x / total for x in weighted_sums(tau, WEIGHT)]
    agree(merge("linear", tau, weight=WEIGHT, normalize=normalize), expected)


@pytest.mark.parametrize("normalize", [True, False])
def test_task_arithmetic_adds_scaled_task_vectors(merge, tau, normalize):
    base = np.random.default_rng(4).normal(size=N).astype(np.float32)
    models = base + tau
    total = sum(WEIGHT) if normalize else 1.0
    changes = weighted_sums(models.astype(np.float64) - base.astype(np.float64), WEIGHT)
    expected = [float(b) + 0.7 * change / total for b, change in zip(base, changes, strict=True)]
    got = merge("task_arithmetic", models, base, weight=WEIGHT, normalize=normalize, **{"lambda": 0.7})
    agree(got, expected)


def trimmed(row: np.ndarray, density: float) -> list[float]:
    """TIES step 1: keep the int(density n) entries of the largest magnitude."""
    order = sorted(range(len(row)), key=lambda index: -abs(float(row[index])))
    kept = frozenset(order[: int(density * len(row))])
    return [float(row[index]) if index in kept else 0.0 for index in range(len(row))]


def elected(rows: list[list[float]], weight, normalize: bool, signed: bool = False) -> list[float]:
    """TIES steps 2 and 3, entry by entry, with plain Python numbers."""
    merged = []
    for entry in zip(*rows, strict=True):
        changes = [w * x for w, x in zip(weight, entry, strict=True)]
        sign = 1 if sum(changes) >= 0 else -1
        agreeing = [i for i, change in enumerate(changes) if change * sign > 0]
        total = sum(changes[i] for i in agreeing)
        divisor = sum(weight[i] if signed else abs(weight[i]) for i in agreeing) if normalize else 1.0
        merged.append(total / divisor if agreeing else 0.0)
    return merged


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("weight", [(1.0, 1.0, 1.0), WEIGHT])
@pytest.mark.parametrize("density", [(0.2, 0.2, 0.2), (1.0, 0.5, 0.013), (0.0, 0.4, 1.0)])
def test_ties_trims_elects_and_averages(merge, tau, density, weight, normalize):
    rows = [trimmed(row, share) for row, share in zip(tau, density, strict=True)]
    expected = [1.4 * x for x in elected(rows, weight, normalize)]
    agree(
        merge("ties", tau, BASE, weight=weight, density=density, normalize=normalize, **{"lambda": 1.4}),
        expected,
    )


def test_ties_in_a_tensor_of_several_chunks(merge):
    tau = np.random.default_rng(8).normal(size=(2, 150_000)).astype(np.float32)
    rows = [trimmed(row, 0.3) for row in tau]
    agree(merge("ties", tau, np.zeros(150_000), density=0.3), elected(rows, (1.0, 1.0), True))


def test_ties_divides_by_signed_weights_as_mergekit_does(merge, tau):
    weight = (0.9, -0.3, 1.3)
    rows = [trimmed(row, 0.6) for row in tau]
    got = merge("ties", tau, BASE, compat="mergekit-0.1", weight=weight, density=0.6)
    agree(got, elected(rows, weight, True, signed=True))


def restored(row, kept: list[float]) -> list[float]:
    """Scaled to the sum of magnitudes that there was before."""
    factor = sum(abs(float(x)) for x in row) / sum(abs(x) for x in kept)
    return [x * factor for x in kept]


def test_ties_rescale_restores_the_sum_of_magnitudes(merge, tau):
    rows = [restored(row, trimmed(row, 0.3)) for row in tau]
    agree(merge("ties", tau, BASE, density=0.3, rescale=True), elected(rows, (1.0, 1.0, 1.0), True))


def test_ties_keeps_every_change_as_large_as_the_smallest_kept(merge):
    row = np.zeros((1, N))
    row[0, :10] = [5, -3, 3, 3, 2, 1, 1, 1, 1, 1]
    got = merge("ties", row, BASE, density=2 / N)
    assert got[:10].tolist() == [5, -3, 3, 3, 0, 0, 0, 0, 0, 0]


def test_ties_counts_a_vote_of_exactly_zero_as_plus(merge):
    rows = np.zeros((2, N))
    rows[:, 0] = [0.5, -0.5]
    assert merge("ties", rows, BASE)[0] == 0.5


def dropped(tau: np.ndarray, density, rescale: bool) -> list[list[float]]:
    """DARE: keep with probability density, divide by it."""
    rows = []
    for model, (row, share) in enumerate(zip(tau, density, strict=True)):
        draws = splitmix64(5, "layer.weight", model, len(row))
        factor = 1 / share if rescale and share else 1.0
        rows.append([float(x) * factor if u < share else 0.0 for x, u in zip(row, draws, strict=True)])
    return rows


DENSITIES = [(0.5, 0.5, 0.5), (1.0, 0.1, 0.0)]


@pytest.mark.parametrize("rescale", [True, False])
@pytest.mark.parametrize("density", DENSITIES)
def test_dare_linear_drops_and_rescales(merge, tau, density, rescale):
    expected = weighted_sums(dropped(tau, density, rescale), WEIGHT)
    agree(merge("dare_linear", tau, BASE, weight=WEIGHT, density=density, rescale=rescale), expected)


@pytest.mark.parametrize("rescale", [True, False])
@pytest.mark.parametrize("density", DENSITIES)
def test_dare_ties_drops_rescales_and_elects(merge, tau, density, rescale):
    got = merge("dare_ties", tau, BASE, weight=WEIGHT, density=density, rescale=rescale)
    agree(got, elected(dropped(tau, density, rescale), WEIGHT, False))


def test_dare_in_a_tensor_of_several_chunks(merge):
    tau = np.random.default_rng(9).normal(size=(2, 140_000)).astype(np.float32)
    expected = weighted_sums(dropped(tau, (0.4, 0.4), True), (1.0, 1.0))
    agree(merge("dare_linear", tau, np.zeros(140_000), density=0.4), expected)


def test_dare_restores_the_sum_of_magnitudes_as_mergekit_does(merge, tau):
    rows = [restored(row, kept) for row, kept in zip(tau, dropped(tau, (0.5,) * 3, False), strict=True)]
    got = merge("dare_linear", tau, BASE, compat="mergekit-0.1", density=0.5)
    agree(got, weighted_sums(rows, (1.0, 1.0, 1.0)))


def test_dare_keeps_the_expectation(merge):
    ones = np.ones((1, N))
    means = [merge("dare_linear", ones, BASE, seed=seed, density=0.1).mean() for seed in range(200)]
    error = math.sqrt((1 / 0.1 - 1) / (N * len(means)))
    assert abs(np.mean(means) - 1) < 4 * error


def test_passthrough_scales_one_model(merge, tau):
    agree(merge("passthrough", tau[:1], scale=0.3), tau[0].astype(np.float64) * 0.3)


def test_passthrough_shifts_after_scaling(merge, tau):
    agree(merge("passthrough", tau[:1], scale=0.3, shift=-0.7), tau[0].astype(np.float64) * 0.3 - 0.7)
