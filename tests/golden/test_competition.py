"""PCB-Merging, MagMax and Localize-and-Stitch, entry by entry with plain Python numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest

LARGE = 280_000  # more than one chunk


def made(sizes, seed: int = 3, models: int = 3) -> list[np.ndarray]:
    """Tensors of different scales, with entries that some models leave alone."""
    generator = np.random.default_rng(seed)
    tensors = []
    for index, size in enumerate(sizes):
        tau = (1.0, 0.1, 3.0)[index] * generator.normal(size=(models, size))
        tau[generator.uniform(size=tau.shape) < 0.2] = 0
        tensors.append(tau.astype(np.float32))
    return tensors


@pytest.fixture(scope="module")
def tensors() -> list[np.ndarray]:
    return made((40, 300, 7))


def flat(tensors) -> np.ndarray:
    return np.concatenate(tensors, axis=1).astype(np.float64)


def agree(got: list[np.ndarray], expected) -> None:
    np.testing.assert_allclose(np.concatenate(got), np.asarray(expected), rtol=3e-5, atol=3e-6)


def pcb(tau: np.ndarray, ratio: float, factor, least: float = -math.inf) -> np.ndarray:
    """The authors' steps on one flattened model, float64."""
    n, d = tau.shape
    shares, values = [], []
    for row in tau:
        ordered = np.sort(np.abs(row))
        cut = np.clip(np.abs(row), ordered[int(d * 0.0001)], ordered[int(d * (1 - 0.0001) - 1)])
        within = np.exp(n * ((cut - cut.min()) / (cut.max() - cut.min())) ** 2)
        between = np.tanh(row * tau.sum(0))
        competition = within * between
        lowest = max(np.sort(competition)[int(d * (1 - ratio))], least)
        competition = np.clip(competition, lowest, None)
        shares.append((competition - lowest) / (competition.max() - lowest))
        values.append(np.sign(row) * cut)
    merged = np.zeros(d)
    for j in range(d):
        total = max(sum(share[j] for share in shares), 1e-12)
        parts = zip(factor, shares, values, strict=True)
        merged[j] = sum(lam * share[j] * value[j] for lam, share, value in parts) / total
    return merged


@pytest.mark.parametrize("ratio", [0.05, 0.1, 0.2, 0.5])
def test_pcb_averages_the_winners(tensors, merge_tensors, ratio):
    factor = (0.8, 1.0, 1.3)
    got = merge_tensors("pcb", tensors, pcb_ratio=ratio, **{"lambda": factor})
    agree(got, pcb(flat(tensors), ratio, factor))


def test_pcb_of_several_chunks_cuts_the_tails_off(merge_tensors):
    generator = np.random.default_rng(6)
    tensors = [generator.normal(size=(2, LARGE)), 0.1 * generator.normal(size=(2, 500))]
    tensors[0][0, 5] = 60.0
    tensors = [tau.astype(np.float32) for tau in tensors]
    agree(merge_tensors("pcb", tensors), pcb(flat(tensors), 0.1, (1.0, 1.0)))


def test_pcb_of_many_models_stays_in_range(merge_tensors):
    """exp(K) of a hundred models is beyond float32."""
    tensors = made((200,), models=100)
    agree(merge_tensors("pcb", tensors), pcb(flat(tensors), 0.1, [1.0] * 100))


def test_pcb_lets_nothing_win_against_the_sum(tensors, merge_tensors):
    """The only departure from the authors' code, and only with very large ratios."""
    agree(merge_tensors("pcb", tensors, pcb_ratio=0.9), pcb(flat(tensors), 0.9, (1.0,) * 3, least=0.0))


def test_magmax_takes_the_largest(tensors, merge_tensors):
    weight = (0.9, -0.4, 1.3)
    expected = [
        0.8 * max((w * x for w, x in zip(weight, entry, strict=True)), key=abs) for entry in flat(tensors).T
    ]
    agree(merge_tensors("magmax", tensors, weight=weight, **{"lambda": 0.8}), expected)


def test_magmax_scales_by_a_half_and_breaks_ties_upwards(merge):
    tau = np.array([[1.0, -2.0, 3.0], [2.0, 2.0, -3.0]])
    for order in (tau, tau[::-1]):
        assert merge("magmax", order, np.zeros(3)).tolist() == [1.0, 1.0, 1.5]


def stitched(tau: np.ndarray, density) -> list[float]:
    """Top changes of each flattened model, averaged where they overlap."""
    kept = []
    for row, share in zip(tau, density, strict=True):
        order = sorted(range(len(row)), key=lambda index: -abs(row[index]))
        kept.append(frozenset(index for index in order[: int(share * len(row))] if row[index] != 0))
    merged = []
    for index in range(tau.shape[1]):
        there = [row[index] for row, mask in zip(tau, kept, strict=True) if index in mask]
        merged.append(sum(there) / len(there) if there else 0.0)
    return merged


@pytest.mark.parametrize("density", [(0.1, 0.1, 0.1), (0.5, 0.01, 0.3), (1.0, 0.0, 0.9)])
def test_localize_and_stitch_averages_overlaps(tensors, merge_tensors, density):
    got = merge_tensors("localize_and_stitch", tensors, density=density)
    agree(got, stitched(flat(tensors), density))


def test_localize_and_stitch_within_tensors(tensors, merge_tensors):
    got = merge_tensors("localize_and_stitch", tensors, density=0.3, scope="tensor")
    agree(got, [x for tau in tensors for x in stitched(tau.astype(np.float64), (0.3,) * 3)])


def test_localize_and_stitch_of_several_chunks(merge_tensors):
    large = np.random.default_rng(7).normal(size=(2, LARGE)).astype(np.float32)
    tensors = [large, (0.5 * large[:, :1000]).astype(np.float32)]
    agree(merge_tensors("localize_and_stitch", tensors), stitched(flat(tensors), (0.1, 0.1)))


def test_a_change_of_zero_is_no_region(merge):
    """The second model changes one entry only, and is meant to keep half of them."""
    tau = np.array([[1.0, 2.0, 3.0, 4.0], [0.0, 6.0, 0.0, 0.0]])
    got = merge("localize_and_stitch", tau, np.zeros(4), density=[1.0, 0.5])
    assert got.tolist() == [1.0, 4.0, 3.0, 4.0]
    assert math.isfinite(got.sum())
