"""Breadcrumbs and DELLA, entry by entry with plain Python numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mergery.errors import RecipeError
from splitmix import splitmix64

SHAPE = (12, 25)
N = SHAPE[0] * SHAPE[1]
WEIGHT = (0.9, -0.4, 1.3)
BASE = np.zeros(N)
WIDE = (200, 701)  # several chunks, whose rows do not fill them


@pytest.fixture(scope="module")
def tau() -> np.ndarray:
    return np.random.default_rng(3).normal(size=(3, N)).astype(np.float32)


def agree(got: np.ndarray, expected) -> None:
    np.testing.assert_allclose(got, np.asarray(expected, dtype=np.float64), rtol=2e-5, atol=2e-6)


def added(rows, weight, normalize: bool) -> list[float]:
    total = sum(weight) if normalize else 1.0
    return [
        sum(w * x for w, x in zip(weight, entry, strict=True)) / total for entry in zip(*rows, strict=True)
    ]


def elected(rows, weight, normalize: bool, signed: bool = False) -> list[float]:
    """TIES steps 2 and 3."""
    merged = []
    for entry in zip(*rows, strict=True):
        changes = [w * x for w, x in zip(weight, entry, strict=True)]
        sign = 1 if sum(changes) >= 0 else -1
        agreeing = [i for i, change in enumerate(changes) if change * sign > 0]
        divisor = sum(weight[i] if signed else abs(weight[i]) for i in agreeing) if normalize else 1.0
        merged.append(sum(changes[i] for i in agreeing) / (divisor or 1.0))
    return merged


def crumbs(row, density: float, gamma: float) -> list[float]:
    """mergekit's counts: of the magnitudes in ascending order, those from ``bottom`` to ``n - top``."""
    n = len(row)
    top = int(gamma * n)
    bottom = n - int(density * n) - top
    if bottom < 0:
        top, bottom = top + bottom, 0
    order = sorted(range(n), key=lambda index: abs(float(row[index])))
    kept = frozenset(order[bottom : n - top])
    return [float(row[index]) if index in kept else 0.0 for index in range(n)]


def official_crumbs(row, density: float, gamma: float) -> list[float]:
    """The authors' steps: remove the largest, then keep the largest of the rest."""
    left = [float(x) for x in row]
    for index in sorted(range(len(left)), key=lambda index: -abs(left[index]))[: int(len(left) * gamma)]:
        left[index] = 0.0
    kept = sorted(range(len(left)), key=lambda index: -abs(left[index]))[: int(len(left) * density)]
    return [x if index in kept else 0.0 for index, x in enumerate(left)]


def rescaled(row, kept) -> list[float]:
    factor = sum(abs(float(x)) for x in row) / sum(abs(x) for x in kept)
    return [x * factor for x in kept]


CRUMBS = [
    ((0.3, 0.3, 0.3), (0.05, 0.05, 0.05)),
    ((1.0, 0.5, 0.013), (0.01, 0.2, 0.0)),
    ((0.0, 0.98, 0.4), (0.1, 0.1, 0.003)),
]


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize(("density", "gamma"), CRUMBS)
def test_breadcrumbs_keeps_a_middle_band(tau, merge, density, gamma, normalize):
    rows = [crumbs(*given) for given in zip(tau, density, gamma, strict=True)]
    got = merge(
        "breadcrumbs", tau, BASE, weight=WEIGHT, density=density, gamma=gamma, normalize=normalize,
        **{"lambda": 0.7},
    )  # fmt: skip
    agree(got, [0.7 * x for x in added(rows, WEIGHT, normalize)])


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize(("density", "gamma"), CRUMBS)
def test_breadcrumbs_ties_elects_among_them(tau, merge, density, gamma, normalize):
    rows = [crumbs(*given) for given in zip(tau, density, gamma, strict=True)]
    given = {"weight": WEIGHT, "density": density, "gamma": gamma, "normalize": normalize}
    agree(merge("breadcrumbs_ties", tau, BASE, **given), elected(rows, WEIGHT, normalize))
    got = merge("breadcrumbs_ties", tau, BASE, compat="mergekit-0.1", **given)
    agree(got, elected(rows, WEIGHT, normalize, signed=True))


def test_breadcrumbs_restores_the_sum_of_magnitudes(tau, merge):
    rows = [rescaled(row, crumbs(row, 0.3, 0.02)) for row in tau]
    got = merge("breadcrumbs", tau, BASE, weight=WEIGHT, density=0.3, gamma=0.02, rescale=True)
    agree(got, added(rows, WEIGHT, False))


@pytest.mark.parametrize("gamma", [0.0, 0.01])
def test_breadcrumbs_keeps_small_tensors_and_gamma_zero(tau, merge, gamma):
    """mergekit drops their whole change."""
    small = tau[:1, :7]
    agree(merge("breadcrumbs", small, BASE[:7], density=0.5, gamma=gamma), crumbs(small[0], 0.5, 0.0))
    assert np.count_nonzero(merge("breadcrumbs", small, BASE[:7], density=0.5, gamma=gamma)) == 3


def test_breadcrumbs_keeps_what_is_as_large_as_the_ends(merge):
    row = np.array([[9.0, 9.0, 5.0, -4.0, 4.0, 3.0, 3.0, 2.0, 1.0, 0.0]])
    got = merge("breadcrumbs", row, BASE[:10], density=0.4, gamma=0.1)
    # of the two largest one is to be left out, and the other, as large, is among the four kept
    assert got.tolist() == [9, 9, 5, -4, 4, 0, 0, 0, 0, 0]


def test_equal_magnitudes_are_never_all_outliers(merge):
    row = np.where(np.arange(N) % 2, 0.25, -0.25)[None]
    agree(merge("breadcrumbs", row, BASE, density=0.5, gamma=0.1), row[0])


@pytest.mark.parametrize("method", ["breadcrumbs", "breadcrumbs_ties"])
@pytest.mark.parametrize("rescale", [True, False])
@pytest.mark.parametrize("normalize", [True, False])
def test_breadcrumbs_by_rows_are_the_papers(tau, merge, method, rescale, normalize):
    density, gamma = (0.3, 0.15, 0.6), (0.05, 0.1, 0.0)
    rows = []
    for row, share, out in zip(tau.reshape(3, *SHAPE), density, gamma, strict=True):
        kept = [x for line in row for x in official_crumbs(line, share, out)]
        rows.append(rescaled(row.ravel(), kept) if rescale else kept)
    got = merge(
        method, tau, BASE, SHAPE, weight=WEIGHT, density=density, gamma=gamma, normalize=normalize,
        rescale=rescale, scope="row",
    )  # fmt: skip
    agree(got, (added if method == "breadcrumbs" else elected)(rows, WEIGHT, normalize))


@pytest.mark.parametrize("scope", ["tensor", "row"])
def test_breadcrumbs_of_several_chunks(merge, scope):
    wide = np.random.default_rng(4).normal(size=(2, math.prod(WIDE))).astype(np.float32)
    lines = [wide.shape[1]] if scope == "tensor" else [WIDE[1]] * WIDE[0]
    expected = np.zeros(wide.shape[1])
    for row in wide.astype(np.float64):
        for start, length in zip(np.cumsum([0, *lines[:-1]]), lines, strict=True):
            line = row[start : start + length]
            order = np.argsort(np.abs(line))
            top, kept = int(0.02 * length), int(0.3 * length)
            middle = order[length - top - kept : length - top]
            expected[start + middle] += line[middle]
    got = merge("breadcrumbs", wide, np.zeros(wide.shape[1]), WIDE, density=0.3, gamma=0.02, scope=scope)
    agree(got, expected)


def pruned(tau, shape, density, epsilon, rescaling: str | None) -> list[list[float]]:
    """MAGPRUNE, row by row."""
    rows = []
    for model, (row, share, reach) in enumerate(zip(tau, density, epsilon, strict=True)):
        draws = splitmix64(5, "layer.weight", model, len(row))
        length = shape[-1]
        kept = []
        for start in range(0, len(row), length):
            line = [float(x) for x in row[start : start + length]]
            order = sorted(range(length), key=lambda index: abs(line[index]))
            for index, x in enumerate(line):
                rank = order.index(index) + 1
                spread = 0.0 if share in (0.0, 1.0) else reach
                p = share - spread + 2 * spread * (rank - 1) / (length - 1) if length > 1 else share
                stays = draws[start + index] < p
                kept.append((x / p if rescaling == "probability" else x) if stays else 0.0)
        if rescaling == "magnitude" and any(kept):
            kept = rescaled(row, kept)
        rows.append(kept)
    return rows


PRUNED = [
    ((0.5, 0.5, 0.5), (0.15, 0.15, 0.15)),
    ((1.0, 0.4, 0.0), (0.15, 0.1, 0.15)),
    ((0.3, 0.6, 0.75), (0.0, 0.4, 0.25)),  # without a spread, and up to probability 1
]


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("rescaling", [None, "probability", "magnitude"])
@pytest.mark.parametrize(("density", "epsilon"), PRUNED)
def test_della_drops_by_rank_and_rescales(tau, merge, density, epsilon, rescaling, normalize):
    rows = pruned(tau, SHAPE, density, epsilon, rescaling)
    given = {"weight": WEIGHT, "density": density, "epsilon": epsilon, "normalize": normalize, "lambda": 1.4}
    given |= {"rescale": rescaling is not None}
    compat = "mergekit-0.1" if rescaling == "magnitude" else None
    expected = elected(rows, WEIGHT, normalize, signed=compat is not None)
    agree(merge("della", tau, BASE, SHAPE, compat, **given), [1.4 * x for x in expected])
    expected = added(rows, WEIGHT, normalize)
    agree(merge("della_linear", tau, BASE, SHAPE, compat, **given), [1.4 * x for x in expected])


def test_della_by_mergekits_defaults_normalises_the_vote_only(tau, merge):
    rows = pruned(tau, SHAPE, (0.5,) * 3, (0.15,) * 3, "probability")
    agree(merge("della", tau, BASE, SHAPE, density=0.5), elected(rows, (1.0,) * 3, True))
    agree(merge("della_linear", tau, BASE, SHAPE, density=0.5), added(rows, (1.0,) * 3, False))


@pytest.mark.parametrize("shape", [(N, 1), (4, 3, 25), (N,)])
def test_della_ranks_along_the_last_axis(tau, merge, shape):
    rows = pruned(tau, shape, (0.5,) * 3, (0.2,) * 3, "probability")
    got = merge("della_linear", tau, BASE, shape, density=0.5, epsilon=0.2)
    agree(got, added(rows, (1.0,) * 3, False))


def test_della_of_several_chunks(merge):
    shape = (200, 701)
    wide = np.random.default_rng(4).normal(size=(1, math.prod(shape))).astype(np.float32)
    lines = wide[0].astype(np.float64).reshape(shape)
    ranks = np.abs(lines).argsort(axis=1).argsort(axis=1)
    p = 0.3 + 0.4 * ranks / 700
    draws = np.array(splitmix64(5, "layer.weight", 0, wide.size)).reshape(shape)
    got = merge("della_linear", wide, np.zeros(wide.size), shape, density=0.5, epsilon=0.2)
    agree(got, np.where(draws < p, lines / p, 0.0).ravel())


def test_della_keeps_the_expectation_of_small_and_large(merge):
    row = np.linspace(1, 2, 400)[None]
    seeds = 400
    total = sum(
        merge("della_linear", row, np.zeros(400), seed=seed, density=0.4, epsilon=0.3).astype(np.float64)
        for seed in range(seeds)
    )
    ratio = total / seeds / row[0]
    for half, p in ((ratio[:200], 0.1), (ratio[200:], 0.4)):  # the smallest probability of each half
        assert abs(half.mean() - 1) < 5 * math.sqrt((1 / p - 1) / (seeds * 200))


@pytest.mark.parametrize(
    ("density", "epsilon", "says"),
    [(0.9, 0.15, r"density 0.9 with epsilon 0.15: .*\n.*at most 0.1"), (0.1, 0.2, "from -0.1 to 0.3")],
)
@pytest.mark.parametrize("method", ["della", "della_linear"])
def test_della_wants_probabilities(tau, merge, method, density, epsilon, says):
    with pytest.raises(RecipeError, match=says):
        merge(method, tau, BASE, density=density, epsilon=epsilon)
