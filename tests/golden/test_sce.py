"""SCE, entry by entry with plain Python numbers."""

from __future__ import annotations

import numpy as np
import pytest

LARGE = 280_000  # more than one chunk


def task_vectors(n: int, scale: float = 1.0) -> np.ndarray:
    """Three models of different strength that leave a part of the entries alone."""
    generator = np.random.default_rng(3)
    tau = generator.normal(size=(3, n)) * np.array([[1.0], [0.5], [2.0]])
    tau[:, generator.uniform(size=n) < 0.3] = 0
    return (scale * tau).astype(np.float32)


def transcribed(tau: np.ndarray, share: float, cut: bool, floor: float = 0.0) -> list[float]:
    """Select, calculate, erase; ``cut``: entries that are not selected change nothing."""
    count, entries = len(tau), tau.T.tolist()
    selected = [True] * len(entries)
    if share < 1:
        variance = []
        for entry in entries:
            mean = sum(entry) / count
            variance.append(sum((x - mean) ** 2 for x in entry) / count)
        number = int(share * sum(v > 0 for v in variance))
        largest = sorted(range(len(entries)), key=lambda index: -variance[index])[:number]
        selected = [False] * len(entries)
        for index in largest:
            selected[index] = True
    squares = [0.0] * count
    for entry, counts in zip(entries, selected, strict=True):
        for model, x in enumerate(entry):
            squares[model] += x * x / len(entries) if counts else 0.0
    total = sum(squares)
    uniform = total == 0 or total < floor
    weight = [1 / count if uniform else square / total for square in squares]
    merged = []
    for entry, counts in zip(entries, selected, strict=True):
        change = entry if counts or not cut else [0.0] * count
        sign = 1 if sum(change) >= 0 else -1
        kept = [model for model in range(count) if change[model] * sign > 0]
        divisor = max(sum(weight[model] for model in kept), floor)
        merged.append(sum(weight[model] * change[model] for model in kept) / divisor if kept else 0.0)
    return merged


def agree(got: np.ndarray, expected: list[float], scale: float = 1.0) -> None:
    np.testing.assert_allclose(got, expected, rtol=2e-6, atol=2e-6 * scale)


@pytest.mark.parametrize("n", [300, LARGE])
@pytest.mark.parametrize("share", [1.0, 0.5, 0.1])
@pytest.mark.parametrize("selection", ["changes", "weights"])
def test_sce_selects_calculates_and_erases(merge, selection, share, n):
    tau = task_vectors(n)
    got = merge("sce", tau, np.zeros(n), select_topk=share, selection=selection)
    agree(got, transcribed(tau, share, cut=selection == "changes"))


@pytest.mark.parametrize("share", [0.0, 1e-6])
def test_sce_that_selects_nothing_keeps_the_base(merge, share):
    assert not merge("sce", task_vectors(300), np.zeros(300), select_topk=share).any()


@pytest.mark.parametrize("share", [1.0, 0.5])
def test_small_changes_are_weighed_like_large_ones(merge, share):
    tau = task_vectors(300, scale=2.0**-20)
    got = merge("sce", tau, np.zeros(300), select_topk=share)
    agree(got, transcribed(tau, share, cut=True), 2.0**-20)
    large = merge("sce", task_vectors(300), np.zeros(300), select_topk=share)
    np.testing.assert_allclose(got * 2.0**20, large, rtol=1e-6)


@pytest.mark.parametrize("scale", [1.0, 2.0**-12])
def test_sce_has_mergekits_thresholds_on_demand(merge, scale):
    tau = task_vectors(300, scale)
    got = merge("sce", tau, np.zeros(300), compat="mergekit-0.1", select_topk=0.5)
    agree(got, transcribed(tau, 0.5, cut=True, floor=1e-6), scale)
