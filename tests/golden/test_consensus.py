"""Consensus merging, TALL masks and EMR-Merging, entry by entry with plain Python numbers."""

from __future__ import annotations

import numpy as np
import pytest

from mergery.errors import RecipeError

SIZES = (40, 300, 7)
LARGE = 280_000  # more than one chunk
WEIGHT = (0.9, -0.4, 1.3)
LAMBDA = (0.2, 0.6, 0.4)


def made(sizes, seed: int = 3) -> list[np.ndarray]:
    """Three models' tensors of different scales, with entries that some leave alone."""
    generator = np.random.default_rng(seed)
    tensors = []
    for scale, size in zip((1.0, 0.1, 3.0), sizes, strict=False):
        tau = scale * generator.normal(size=(3, size))
        tau[generator.uniform(size=tau.shape) < 0.2] = 0
        tensors.append(tau.astype(np.float32))
    return tensors


@pytest.fixture(scope="module")
def tensors() -> list[np.ndarray]:
    return made(SIZES)


def flat(tensors) -> list[list[float]]:
    return np.concatenate(tensors, axis=1).astype(np.float64).tolist()


def agree(got: list[np.ndarray], expected) -> None:
    np.testing.assert_allclose(np.concatenate(got), np.asarray(expected), rtol=2e-5, atol=2e-6)


def ties_sum(rows, weight, density: float) -> list[float]:
    """TIES with the disjoint sum, over one flattened model."""
    trimmed = []
    for row in rows:
        order = sorted(range(len(row)), key=lambda index: -abs(row[index]))
        kept = frozenset(order[: int(density * len(row))])
        trimmed.append([x if index in kept else 0.0 for index, x in enumerate(row)])
    merged = []
    for entry in zip(*trimmed, strict=True):
        changes = [w * x for w, x in zip(weight, entry, strict=True)]
        sign = 1 if sum(changes) >= 0 else -1
        merged.append(sum(change for change in changes if change * sign > 0))
    return merged


def masks(rows, weight, multi, strictness) -> list[list[bool]]:
    """TALL masks, ``[entry][model]``: |theta_0 - theta_t| > lambda |theta_mt - theta_t|."""
    return [
        [abs(w * x) > lam * abs(total - w * x) for w, x, lam in zip(weight, entry, strictness, strict=True)]
        for entry, total in zip(zip(*rows, strict=True), multi, strict=True)
    ]


@pytest.mark.parametrize("k", [0, 1, 2, 3, 4])
def test_consensus_ta_keeps_what_k_tasks_need(tensors, merge_tensors, k):
    rows = flat(tensors)
    multi = [sum(w * x for w, x in zip(WEIGHT, entry, strict=True)) for entry in zip(*rows, strict=True)]
    needed = masks(rows, WEIGHT, multi, LAMBDA)
    expected = [0.7 * x if sum(mask) >= k else 0.0 for x, mask in zip(multi, needed, strict=True)]
    got = merge_tensors(
        "consensus_ta", tensors, weight=WEIGHT, tall_mask_lambda=LAMBDA, k=k, **{"lambda": 0.7}
    )
    agree(got, expected)
    assert k not in (2, 3) or 0 < np.count_nonzero(expected) < np.count_nonzero(multi)


@pytest.mark.parametrize("scope", ["tensor", "model"])
def test_consensus_ties_masks_the_disjoint_sum(tensors, merge_tensors, scope):
    rows = flat(tensors)
    if scope == "model":
        multi = ties_sum(rows, WEIGHT, 0.3)
    else:
        multi = [x for tau in tensors for x in ties_sum(flat([tau]), WEIGHT, 0.3)]
    needed = masks(rows, WEIGHT, multi, LAMBDA)
    expected = [x if sum(mask) >= 2 else 0.0 for x, mask in zip(multi, needed, strict=True)]
    given = {"weight": WEIGHT, "density": 0.3, "tall_mask_lambda": LAMBDA, "scope": scope}
    agree(merge_tensors("consensus_ties", tensors, **given), expected)


@pytest.mark.parametrize("place", [0, 1, 2, None])
def test_tall_mask_takes_one_task_out_of_the_sum(tensors, merge_tensors, place):
    rows = flat(tensors)
    multi = [sum(w * x for w, x in zip(WEIGHT, entry, strict=True)) for entry in zip(*rows, strict=True)]
    needed = masks(rows, WEIGHT, multi, LAMBDA)
    expected = [x if place is None or mask[place] else 0.0 for x, mask in zip(multi, needed, strict=True)]
    task = [place == model for model in range(3)]
    got = merge_tensors("tall_mask", tensors, weight=WEIGHT, tall_mask_lambda=LAMBDA, task=task)
    agree(got, expected)


def unified(rows) -> list[float]:
    """EMR's elected vector: zeros of the sum count as minus."""
    merged = []
    for entry in zip(*rows, strict=True):
        sign = 1 if sum(entry) > 0 else -1
        merged.append(sign * max(abs(x) if x * sign > 0 else 0.0 for x in entry))
    return merged


@pytest.mark.parametrize("place", [0, 1, 2])
def test_emr_masks_and_rescales_for_one_task(tensors, merge_tensors, place):
    rows = flat(tensors)
    masked = [x if x * own > 0 else 0.0 for x, own in zip(unified(rows), rows[place], strict=True)]
    factor = sum(abs(x) for x in rows[place]) / sum(abs(x) for x in masked)
    got = merge_tensors("emr", tensors, task=[place == model for model in range(3)])
    agree(got, [factor * x for x in masked])


def test_emr_without_a_task_is_the_unified_vector(tensors, merge_tensors):
    agree(merge_tensors("emr", tensors), unified(flat(tensors)))


def test_emr_counts_a_sum_of_zero_as_minus(merge):
    assert merge("emr", np.array([[0.5, 0.0], [-0.5, 0.0]]), np.zeros(2)).tolist() == [-0.5, 0.0]


def test_emr_of_a_model_like_the_base_is_the_base(merge):
    tau = np.array([[0.5, -1.0], [0.0, 0.0]])
    assert merge("emr", tau, np.zeros(2), task=[False, True]).tolist() == [0.0, 0.0]


def test_emr_of_several_chunks(merge_tensors):
    tensors = [np.tile(tau, LARGE // 500) for tau in made((500,))]
    rows = flat(made((500,)))
    masked = [x if x * own > 0 else 0.0 for x, own in zip(unified(rows), rows[1], strict=True)]
    factor = sum(abs(x) for x in rows[1]) / sum(abs(x) for x in masked)
    got = merge_tensors("emr", tensors, task=[False, True, False])
    agree(got, np.tile([factor * x for x in masked], LARGE // 500))


@pytest.mark.parametrize("method", ["tall_mask", "emr"])
def test_two_tasks_are_one_too_many(tensors, merge_tensors, method):
    with pytest.raises(RecipeError, match=f"{method}: task is on for 2 models"):
        merge_tensors(method, tensors, task=[True, False, True])
