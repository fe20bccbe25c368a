"""Arcee Fusion and NearSwap, row by row and entry by entry."""

from __future__ import annotations

import math

import numpy as np
import pytest

LARGE = (900, 311)  # more than one chunk


def pair(shape, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """One model ``(1, n)`` and its base, whose difference float32 represents exactly."""
    generator = np.random.default_rng(seed)
    n = math.prod(shape)
    base = np.round(generator.normal(size=n) * 2**10) / 2**10
    change = np.round(generator.normal(size=n) * generator.uniform(size=n) * 2**16) / 2**18
    return (base + change)[None], base


def softmax(row: list[float]) -> list[float]:
    largest = max(row)
    powers = [math.exp(x - largest) for x in row]
    total = sum(powers)
    return [power / total for power in powers]


def important(model: np.ndarray, base: np.ndarray, row: int) -> list[float]:
    """The changes that are kept, with plain Python numbers."""
    importance = []
    for start in range(0, len(base), row):
        x, b = model[start : start + row].tolist(), base[start : start + row].tolist()
        p, q = ([share + 1e-8 for share in softmax(part)] for part in (x, b))
        divergence = sum(left * math.log(left / right) for left, right in zip(p, q, strict=True))
        importance += [abs(left - right) * divergence for left, right in zip(x, b, strict=True)]
    ordered = sorted(importance)
    first, median, third = (ordered[int(q * (len(ordered) - 1))] for q in (0.25, 0.5, 0.75))
    threshold = median + 1.5 * (third - first)
    return [x - b if score >= threshold else 0.0 for x, b, score in zip(model, base, importance, strict=True)]


@pytest.mark.parametrize("shape", [(12, 25), LARGE, (5, 4, 6), (40,), (1, 2), (2, 1)])
def test_arcee_fusion_keeps_the_important_changes(merge, shape):
    models, base = pair(shape)
    expected = np.array(important(models[0], base, shape[-1]))
    got = merge("arcee_fusion", models, base, shape=shape)
    np.testing.assert_allclose(got, base + expected, rtol=0, atol=1e-6)


def test_arcee_fusion_measures_the_divergence_of_tiny_changes(merge):
    base = np.random.default_rng(5).normal(size=4 * 512).astype(np.float32) * np.float32(0.02)
    step = np.random.default_rng(6).normal(size=4 * 512).astype(np.float32) * np.float32(1e-5)
    models = (base + step)[None]
    expected = np.array(important(models[0].astype(np.float64), base.astype(np.float64), 512))
    got = merge("arcee_fusion", models, base, shape=(4, 512))
    assert 0 < np.count_nonzero(expected) < 0.2 * expected.size
    np.testing.assert_array_equal(got != base, expected != 0)


@pytest.mark.parametrize("t", [0.0, 1e-3, 0.1, 10.0])
def test_nearswap_moves_by_at_most_t(merge, t):
    models, base = pair((12, 25))
    expected = []
    for x, b in zip(models[0].tolist(), base.tolist(), strict=True):
        weight = min(t / abs(x - b), 1.0) if x != b else 0.0
        expected.append(weight * x + (1 - weight) * b)
    np.testing.assert_allclose(merge("nearswap", models, base, t=t), expected, rtol=0, atol=1e-6)
