"""Reinforced Agent Merging, entry by entry with plain Python numbers."""

from __future__ import annotations

import numpy as np
import pytest

LARGE = 280_000  # more than one chunk


def sparse_changes(count: int, n: int, density: float) -> np.ndarray:
    """Task vectors of which each has few entries that count, and noise."""
    generator = np.random.default_rng(3)
    tau = generator.normal(size=(count, n)) * (generator.uniform(size=(count, n)) < density)
    return (tau + 1e-6 * generator.normal(size=(count, n))).astype(np.float32)


def merged(tau: np.ndarray, epsilon: float, scale: list[float]) -> list[float]:
    result = []
    for entry in tau.T.tolist():
        touched = [model for model, x in enumerate(entry) if abs(x) > epsilon]
        if len(touched) == 1:
            result.append(entry[touched[0]] * scale[touched[0]])
        else:
            result.append(sum(entry[model] for model in touched) / max(len(touched), 1))
    return result


def agree(got: np.ndarray, expected: list[float]) -> None:
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("epsilon", [0.0, 1e-5, 0.3])
@pytest.mark.parametrize("n", [300, LARGE])
def test_ram_divides_by_the_number_of_models_that_change_an_entry(merge, n, epsilon):
    tau = sparse_changes(3, n, 0.4)
    agree(merge("ram", tau, np.zeros(n), epsilon=epsilon), merged(tau, epsilon, [1.0, 1.0, 1.0]))


@pytest.mark.parametrize(("r", "alpha"), [(0.1, 0.2), (0.5, 1.5), (0.0, 1.0)])
@pytest.mark.parametrize("n", [300, LARGE])
def test_ramplus_amplifies_what_only_one_model_changes(merge, n, r, alpha):
    tau = sparse_changes(3, n, 0.4)
    tau[1, n // 2 :] = 0
    tau[2, : n // 3] = 0
    scale = []
    for model in range(3):
        alone = shared = 0
        for entry in tau.T.tolist():
            if abs(entry[model]) > 1e-5:
                others = sum(abs(x) > 1e-5 for x in entry) - 1
                alone, shared = alone + (others == 0), shared + (others > 0)
        scale.append(1 + r * min(max(shared / alone, 0), alpha))
    agree(merge("ramplus_tl", tau, np.zeros(n), r=r, alpha=alpha), merged(tau, 1e-5, scale))


def test_ramplus_of_models_that_share_everything_is_their_mean(merge):
    tau = np.random.default_rng(3).normal(size=(2, 300)).astype(np.float32)
    agree(merge("ramplus_tl", tau, np.zeros(300)), tau.astype(np.float64).mean(axis=0).tolist())
