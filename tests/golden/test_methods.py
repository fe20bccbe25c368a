"""Every method against an independent float64 transcription of its paper's steps, entry by entry."""

from __future__ import annotations

import hashlib
import math

import numpy as np
import pytest
import torch

from mergery.methods import PerModel, RandomKey, TaskVectors, Weights, get_method

SHAPE = (12, 25)
N = SHAPE[0] * SHAPE[1]
WEIGHT = (0.9, -0.4, 1.3)


@pytest.fixture(scope="module")
def tau() -> np.ndarray:
    return np.random.default_rng(3).normal(size=(3, N)).astype(np.float32)


def run(name: str, values: np.ndarray, stack=TaskVectors, seed: int = 5, **parameters) -> np.ndarray:
    method = get_method(name)
    given = {
        parameter.name: PerModel([parameter.default] * len(values))
        if parameter.per_model
        else parameter.default
        for parameter in method.parameters.values()
    } | parameters
    return method(stack(torch.from_numpy(values), SHAPE, RandomKey(seed, "layer.weight")), given).numpy()


def agree(got: np.ndarray, expected) -> None:
    np.testing.assert_allclose(got, np.asarray(expected, dtype=np.float64), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("normalize", [True, False])
def test_linear_is_the_weighted_mean(tau, normalize):
    total = sum(WEIGHT) if normalize else 1.0
    expected = [sum(w * float(x) for w, x in zip(WEIGHT, column, strict=True)) / total for column in tau.T]
    agree(run("linear", tau, Weights, weight=PerModel(WEIGHT), normalize=normalize), expected)


@pytest.mark.parametrize("normalize", [True, False])
def test_task_arithmetic_adds_scaled_task_vectors(tau, normalize):
    total = sum(WEIGHT) if normalize else 1.0
    expected = [
        0.7 * sum(w * float(x) for w, x in zip(WEIGHT, column, strict=True)) / total for column in tau.T
    ]
    agree(
        run("task_arithmetic", tau, weight=PerModel(WEIGHT), normalize=normalize, **{"lambda": 0.7}), expected
    )


def trimmed(row: np.ndarray, density: float) -> list[float]:
    """TIES step 1: keep the int(density n) entries of the largest magnitude."""
    order = sorted(range(N), key=lambda index: -abs(float(row[index])))
    kept = frozenset(order[: int(density * N)])
    return [float(row[index]) if index in kept else 0.0 for index in range(N)]


def elected(rows: list[list[float]], weight, normalize: bool) -> list[float]:
    """TIES steps 2 and 3, entry by entry, with plain Python numbers."""
    merged = []
    for entry in zip(*rows, strict=True):
        changes = [w * x for w, x in zip(weight, entry, strict=True)]
        sign = 1 if sum(changes) >= 0 else -1
        agreeing = [i for i, change in enumerate(changes) if change * sign > 0]
        total = sum(changes[i] for i in agreeing)
        divisor = sum(abs(weight[i]) for i in agreeing) if normalize else 1.0
        merged.append(total / divisor if agreeing else 0.0)
    return merged


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("weight", [(1.0, 1.0, 1.0), WEIGHT])
@pytest.mark.parametrize("density", [(0.2, 0.2, 0.2), (1.0, 0.5, 0.013), (0.0, 0.4, 1.0)])
def test_ties_trims_elects_and_averages(tau, density, weight, normalize):
    rows = [trimmed(row, share) for row, share in zip(tau, density, strict=True)]
    expected = [1.4 * x for x in elected(rows, weight, normalize)]
    got = run(
        "ties",
        tau,
        weight=PerModel(weight),
        density=PerModel(density),
        normalize=normalize,
        **{"lambda": 1.4},
    )
    agree(got, expected)


def test_ties_rescale_restores_the_sum_of_magnitudes(tau):
    rows = []
    for row in tau:
        kept = trimmed(row, 0.3)
        factor = sum(abs(float(x)) for x in row) / sum(abs(x) for x in kept)
        rows.append([x * factor for x in kept])
    got = run("ties", tau, density=PerModel([0.3] * 3), rescale=True)
    agree(got, elected(rows, (1.0, 1.0, 1.0), True))


def test_ties_keeps_every_change_as_large_as_the_smallest_kept():
    row = np.zeros((1, N), dtype=np.float32)
    row[0, :10] = [5, -3, 3, 3, 2, 1, 1, 1, 1, 1]
    got = run("ties", row, density=PerModel([2 / N]))
    assert got[:10].tolist() == [5, -3, 3, 3, 0, 0, 0, 0, 0, 0]


def test_ties_counts_a_vote_of_exactly_zero_as_plus():
    rows = np.zeros((2, N), dtype=np.float32)
    rows[:, 0] = [0.5, -0.5]
    assert run("ties", rows)[0] == 0.5


def splitmix64(seed: int, name: str, model: int, count: int) -> list[float]:
    """The published generator in Python's own integers: Steele, Lea and Flood 2014, figure 17."""
    mask = (1 << 64) - 1
    digest = hashlib.sha256(f"{seed}\0{name}\0{model}".encode()).digest()
    state = int.from_bytes(digest[:8], "little")
    numbers = []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & mask
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        z ^= z >> 31
        numbers.append((z >> 40) / 2.0**24)
    return numbers


def dropped(tau: np.ndarray, density, rescale: bool) -> list[list[float]]:
    """DARE: keep with probability density, divide by it."""
    rows = []
    for model, (row, share) in enumerate(zip(tau, density, strict=True)):
        draws = splitmix64(5, "layer.weight", model, N)
        factor = 1 / share if rescale and share else 1.0
        rows.append([float(x) * factor if u < share else 0.0 for x, u in zip(row, draws, strict=True)])
    return rows


DENSITIES = [(0.5, 0.5, 0.5), (1.0, 0.1, 0.0)]


@pytest.mark.parametrize("rescale", [True, False])
@pytest.mark.parametrize("density", DENSITIES)
def test_dare_linear_drops_and_rescales(tau, density, rescale):
    rows = dropped(tau, density, rescale)
    expected = [sum(w * x for w, x in zip(WEIGHT, entry, strict=True)) for entry in zip(*rows, strict=True)]
    got = run("dare_linear", tau, weight=PerModel(WEIGHT), density=PerModel(density), rescale=rescale)
    agree(got, expected)


@pytest.mark.parametrize("rescale", [True, False])
@pytest.mark.parametrize("density", DENSITIES)
def test_dare_ties_drops_rescales_and_elects(tau, density, rescale):
    got = run("dare_ties", tau, weight=PerModel(WEIGHT), density=PerModel(density), rescale=rescale)
    agree(got, elected(dropped(tau, density, rescale), WEIGHT, False))


def test_dare_keeps_the_expectation():
    ones = np.ones((1, N), dtype=np.float32)
    means = [run("dare_linear", ones, seed=seed, density=PerModel([0.1])).mean() for seed in range(200)]
    error = math.sqrt((1 / 0.1 - 1) / (N * len(means)))
    assert abs(np.mean(means) - 1) < 4 * error


@pytest.mark.parametrize("t", [0.0, 0.3, 1.0])
def test_slerp_follows_the_great_circle(tau, t):
    a, b = (row.astype(np.float64) for row in tau[:2])
    angle = math.acos(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
    expected = (math.sin((1 - t) * angle) * a + math.sin(t * angle) * b) / math.sin(angle)
    agree(run("slerp", tau[:2], Weights, t=t), expected)


def test_slerp_follows_the_circle_at_small_angles_too(tau):
    a = tau[0].astype(np.float64)
    b = (a + 0.3 * tau[1]).astype(np.float32).astype(np.float64)
    angle = math.acos(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
    assert 0.02 < angle < 0.5
    expected = (math.sin(0.7 * angle) * a + math.sin(0.3 * angle) * b) / math.sin(angle)
    got = run("slerp", np.stack([a, b]).astype(np.float32), Weights, t=0.3)
    np.testing.assert_allclose(got, expected, rtol=2e-6, atol=1e-6)


def test_slerp_is_linear_between_nearly_parallel_models(tau):
    a = tau[0]
    b = (1.5 * a + 0.001 * tau[1]).astype(np.float32)
    expected = 0.75 * a.astype(np.float64) + 0.25 * b.astype(np.float64)
    agree(run("slerp", np.stack([a, b]), Weights, t=0.25), expected)


def test_passthrough_scales_one_model(tau):
    agree(run("passthrough", tau[:1], Weights, scale=PerModel([0.3])), tau[0].astype(np.float64) * 0.3)
