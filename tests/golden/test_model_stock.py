"""Model Stock against its formula, vector by vector."""

from __future__ import annotations

import math

import numpy as np
import pytest

SHAPE = (12, 25)
LARGE = (900, 311)  # more than one chunk


def fine_tunes(count: int, shape, common: float, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Models ``(K, n)`` whose task vectors have a part in common, and their base."""
    generator = np.random.default_rng(3)
    n = math.prod(shape)
    base = generator.normal(size=n).astype(np.float32)
    tau = scale * (common * generator.normal(size=n) + generator.normal(size=(count, n)))
    return (base + tau).astype(np.float32), base


def drawn_back(tau: np.ndarray, clamp: bool = True, floor: float = 0.0) -> np.ndarray:
    """t times the mean of task vectors ``(K, n)``, with t = K c / (1 + (K - 1) c)."""
    count = len(tau)
    pairs = [(i, j) for i in range(count) for j in range(i)]
    cosine = 0.0
    for i, j in pairs:
        product = max(np.linalg.norm(tau[i]) * np.linalg.norm(tau[j]), floor)
        cosine += (tau[i] @ tau[j] / product if product else 0.0) / len(pairs)
    t = count * cosine / (1 + (count - 1) * cosine)
    if clamp:
        t = min(max(t, 0.0), 1.0)
    return t * tau.mean(axis=0)


def agree(got: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(got, expected.reshape(-1), rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("shape", [SHAPE, LARGE])
@pytest.mark.parametrize("count", [2, 4])
def test_the_ratio_follows_from_the_angle(merge, count, shape):
    models, base = fine_tunes(count, shape, common=0.8)
    tau = models.astype(np.float64) - base
    agree(merge("model_stock", models, base, shape=shape), base + drawn_back(tau))


@pytest.mark.parametrize("shape", [SHAPE, LARGE, (5, 4, 6), (9,)])
@pytest.mark.parametrize("clamp", [True, False])
def test_every_row_has_its_own_angle(merge, shape, clamp):
    models, base = fine_tunes(3, shape, common=0.8)
    tau = (models.astype(np.float64) - base).reshape(3, -1, shape[-1])
    change = np.stack([drawn_back(tau[:, row], clamp) for row in range(tau.shape[1])])
    got = merge("model_stock", models, base, shape=shape, filter_wise=True, clamp=clamp)
    np.testing.assert_allclose(got, base + change.reshape(-1), rtol=1e-5, atol=1e-5)


def test_obtuse_angles_lead_back_to_the_base(merge):
    models, base = fine_tunes(2, SHAPE, common=0.0)
    models[1] = base - 0.9 * (models[0] - base) + 0.2 * (models[1] - base)
    assert np.array_equal(merge("model_stock", models, base), base)
    tau = models.astype(np.float64) - base
    beyond = drawn_back(tau, clamp=False)
    assert np.abs(beyond).max() > 1
    got = merge("model_stock", models, base, clamp=False)
    np.testing.assert_allclose(got, base + beyond, rtol=1e-5, atol=1e-5)


def test_small_differences_have_an_angle_too(merge):
    models, _ = fine_tunes(3, SHAPE, common=0.8)
    base = np.zeros(models.shape[1], np.float32)
    models *= np.float32(2.0**-18)
    tau = models.astype(np.float64)
    assert (np.linalg.norm(tau, axis=1) ** 2 < 1e-6).all()
    np.testing.assert_allclose(merge("model_stock", models, base), drawn_back(tau), rtol=1e-6, atol=1e-12)
    got = merge("model_stock", models, base, compat="mergekit-0.1")
    np.testing.assert_allclose(got, drawn_back(tau, clamp=False, floor=1e-6), rtol=1e-6, atol=1e-12)


def test_models_that_cancel_are_the_base(merge):
    models, base = fine_tunes(1, SHAPE, common=0.0)
    base = np.zeros_like(base)
    for clamp in (True, False):
        assert np.array_equal(
            merge("model_stock", np.stack([models[0], -models[0]]), base, clamp=clamp), base
        )
