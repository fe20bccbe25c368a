"""LiNeS, MetaGPT, extrapolation and vectors of models, with plain Python numbers."""

from __future__ import annotations

import numpy as np
import pytest

from mergery.stack import Place

LAYERS = 4
PLACES = [
    Place("embed"),
    *(Place(f"layers.{layer}", layer, LAYERS) for layer in range(LAYERS)),
    Place("only", 0, 1),
]
WEIGHT = (0.9, -0.4, 1.3)
LARGE = 280_000  # more than one chunk


@pytest.fixture(scope="module")
def tensors() -> list[np.ndarray]:
    generator = np.random.default_rng(3)
    sizes = (50, 20, 30, 40, 50, 7)
    return [(scale * generator.normal(size=(3, n))).astype(np.float32) for scale, n in enumerate(sizes, 1)]


@pytest.fixture(scope="module")
def tau() -> np.ndarray:
    return np.random.default_rng(4).normal(size=(3, 60)).astype(np.float32)


def agree(got, expected) -> None:
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-6)


def scales(alpha: float, beta: float) -> list[float]:
    """Outside the layers, in four layers, and in a stack of one."""
    return [alpha, *(alpha + beta * layer / (LAYERS - 1) for layer in range(LAYERS)), alpha]


def check_lines(got, merged, alpha: float, beta: float) -> None:
    for part, whole, scale in zip(got, merged, scales(alpha, beta), strict=True):
        agree(part, scale * np.array(whole))


def weighted(tensors, weight) -> list[list[float]]:
    return [
        [sum(w * float(x) for w, x in zip(weight, entry, strict=True)) for entry in tau.T] for tau in tensors
    ]


def size(tensors) -> float:
    return sum(abs(x) for tensor in tensors for x in tensor)


def test_lines_grows_with_depth(tensors, merge_tensors):
    got = merge_tensors("lines", tensors, PLACES, weight=WEIGHT, alpha=0.2, beta=0.7)
    check_lines(got, weighted(tensors, WEIGHT), 0.2, 0.7)
    check_lines(merge_tensors("lines", tensors, PLACES, alpha=0), weighted(tensors, (1, 1, 1)), 0.0, 0.5)


def test_lines_starts_at_one_over_the_number_of_models(tensors, merge_tensors):
    check_lines(merge_tensors("lines", tensors, PLACES), weighted(tensors, (1, 1, 1)), 1 / 3, 0.5)


def test_lines_starts_where_the_norms_say(tensors, merge_tensors):
    merged = weighted(tensors, WEIGHT)
    alpha = size(weighted(tensors, (1, 1, 1))) / size(merged) / 3
    check_lines(merge_tensors("lines", tensors, PLACES, weight=WEIGHT), merged, alpha, 0.5)


def test_lines_leaves_models_of_weight_zero_out_of_the_norms(tensors, merge_tensors):
    weight = (0.9, 0.0, 1.3)
    alpha = size(weighted(tensors, (1, 0, 1))) / size(weighted(tensors, weight)) / 2
    got = merge_tensors("lines", tensors, PLACES, weight=weight)
    check_lines(got, weighted(tensors, weight), alpha, 0.5)


def ties(tensors, weight, density: float) -> list[list[float]]:
    """TIES with the mean, trimmed over the whole model."""
    rows = np.concatenate(tensors, axis=1)
    for row in rows:
        order = sorted(range(len(row)), key=lambda index: -abs(row[index]))
        row[order[int(density * len(row)) :]] = 0
    merged = []
    for entry in rows.T.tolist():
        changes = [w * x for w, x in zip(weight, entry, strict=True)]
        sign = 1 if sum(changes) >= 0 else -1
        agreeing = [i for i, change in enumerate(changes) if change * sign > 0]
        divisor = sum(abs(weight[i]) for i in agreeing)
        merged.append(sum(changes[i] for i in agreeing) / divisor if agreeing else 0.0)
    ends = np.cumsum([tau.shape[1] for tau in tensors])[:-1]
    return [part.tolist() for part in np.split(np.array(merged), ends)]


@pytest.mark.parametrize("weight", [(1.0, 1.0, 1.0), WEIGHT])
def test_lines_of_ties(tensors, merge_tensors, weight):
    merged = ties(tensors, weight, 0.3)
    given = {"weight": weight, "density": 0.3, "beta": 0.8}
    check_lines(merge_tensors("lines_ties", tensors, PLACES, alpha=0.1, **given), merged, 0.1, 0.8)
    alpha = size(weighted(tensors, (1, 1, 1))) / size(merged) / 3
    check_lines(merge_tensors("lines_ties", tensors, PLACES, **given), merged, alpha, 0.8)


def test_lines_of_models_like_the_base_is_the_base(merge_tensors):
    tensors = [np.zeros((2, 5)), np.zeros((2, 3))]
    for method in ("lines", "lines_ties"):
        assert not any(part.any() for part in merge_tensors(method, tensors, PLACES[:2], weight=[0.5, 2.0]))


def test_metagpt_weighs_by_squared_norms_of_the_whole_model(tensors, merge_tensors):
    strong = [tau * np.array([[1.0], [0.2], [2.0]]) for tau in tensors]
    strong = [tau.astype(np.float32) for tau in strong]
    squares = [sum(float(x) ** 2 for tau in strong for x in tau[model]) for model in range(3)]
    coefficients = [square / sum(squares) for square in squares]
    got = merge_tensors("metagpt", strong)
    for part, expected in zip(got, weighted(strong, coefficients), strict=True):
        agree(part, expected)


@pytest.mark.parametrize("scale", [1e-30, 3e4])
def test_metagpt_of_several_chunks_and_extreme_sizes(merge_tensors, scale):
    wide = np.random.default_rng(5).normal(size=(2, LARGE)) * np.array([[1.0], [2.0]])
    wide = (scale * wide).astype(np.float32).astype(np.float64)
    squares = (wide * wide).sum(1)
    (got,) = merge_tensors("metagpt", [wide])
    expected = (squares / squares.sum()) @ wide
    np.testing.assert_allclose(got / scale, expected / scale, rtol=2e-5, atol=2e-6)


def test_metagpt_of_models_like_the_base_is_the_base(merge):
    assert not merge("metagpt", np.zeros((2, 5)), np.zeros(5)).any()


def test_expo_goes_beyond_the_aligned_model(tau, merge):
    sft, aligned = (row.astype(np.float64) for row in tau[:2])
    agree(merge("expo", tau[1:2], tau[0]), aligned + 0.3 * (aligned - sft))
    agree(merge("expo", tau[1:2], tau[0], alpha=0.5), aligned + 0.5 * (aligned - sft))


def test_chat_vector_is_added_to_the_target(tau, merge):
    base, chat, target = (row.astype(np.float64) for row in tau)
    agree(merge("chat_vector", tau[1:], tau[0]), target + (chat - base))
    agree(merge("chat_vector", tau[1:], tau[0], ratio=0.5), target + 0.5 * (chat - base))


def test_negation_subtracts(tau, merge):
    base, one, two = (row.astype(np.float64) for row in tau)
    got = merge("task_negation", tau[1:], tau[0], weight=[0.5, 2.0], **{"lambda": 0.3})
    agree(got, base - 0.3 * (0.5 * (one - base) + 2.0 * (two - base)))


def test_analogy_carries_a_difference_over(tau, merge):
    a, b, c = (row.astype(np.float64) for row in tau)
    agree(merge("task_analogy", tau), c + (b - a))
    agree(merge("task_analogy", tau, **{"lambda": 0.4}), c + 0.4 * (b - a))


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_wise_ft_interpolates(tau, merge, alpha):
    base, tuned = (row.astype(np.float64) for row in tau[:2])
    agree(merge("wise_ft", tau[1:2], tau[0], alpha=alpha), (1 - alpha) * base + alpha * tuned)
