"""The stack's reductions and results against plain numpy, on the processor's loops and on torch's."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from mergery.errors import CheckpointError
from mergery.stack import Combination, Mapped, RandomKey, Sparsity
from mergery.stack.chunk import CHUNK
from mergery.stack.device import DeviceCompute
from mergery.stack.kernels import narrow, widen
from mergery.stack.native import NativeCompute, Workspace
from mergery.stack.rows import ArrayRows

K = 3
SHAPE = (346, 1000)  # more than one chunk, and not a whole number of them
N = math.prod(SHAPE)
KEY = RandomKey(3, "layer.weight")

Make = Callable[..., NativeCompute | DeviceCompute]


@pytest.fixture(scope="module")
def base() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.02, N).astype(np.float32)


@pytest.fixture(scope="module")
def models(base: np.ndarray) -> np.ndarray:
    return (base + np.random.default_rng(1).normal(0, 0.001, (K, N))).astype(np.float32)


@pytest.fixture(scope="module")
def tau(base: np.ndarray, models: np.ndarray) -> np.ndarray:
    return models - base


@pytest.fixture(params=["native", "device"])
def make(request: pytest.FixtureRequest) -> Make:
    def build(models, base, shape=SHAPE):
        rows = [ArrayRows(row) for row in models]
        start = None if base is None else ArrayRows(base)
        if request.param == "native":
            return NativeCompute(rows, start, shape, KEY, Workspace())
        return DeviceCompute(rows, start, shape, KEY, Workspace(), torch.device("cpu"), 70_000)

    return build


def result(compute, merged, dtype="F32") -> np.ndarray:
    return np.concatenate([piece.copy() for _, piece in compute.evaluate(merged, dtype)])


def test_gram(make, models, base, tau):
    wide = tau.astype(np.float64)
    np.testing.assert_allclose(make(models, base).gram(False)[0], wide @ wide.T, rtol=1e-10)


def test_gram_of_rows(make, models, base, tau):
    wide = tau.astype(np.float64).reshape(K, *SHAPE)
    expected = np.einsum("krc,lrc->rkl", wide, wide)
    np.testing.assert_allclose(make(models, base).gram(True), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("rank", [0, 1, N // 3, N - 1])
def test_kth_magnitude_is_exact(make, models, base, tau, rank):
    found = make(models, base).kth_magnitude([[rank], [N - 1 - rank], [rank]])
    ordered = np.sort(abs(tau), axis=1)
    assert found[:, 0].tolist() == [ordered[0, rank], ordered[1, N - 1 - rank], ordered[2, rank]]


def test_kth_magnitude_among_equals(make):
    values = np.repeat(np.float32([3, -1, 0, 2, -2]), 10)[None]
    compute = make(values, None, (50,))
    assert [compute.kth_magnitude([[rank]])[0, 0] for rank in (0, 9, 10, 20, 30, 39, 40, 49)] == [
        0, 0, 1, 2, 2, 2, 3, 3,
    ]  # fmt: skip


def test_kth_value_of_an_expression(make, models, base, tau):
    spread = tau.max(0) - tau.min(0)
    found = make(models, base).kth_values(
        lambda chunk: chunk.values.amax(0) - chunk.values.amin(0), [[5, N // 2]]
    )
    np.testing.assert_array_equal(found, [np.sort(spread)[[5, N // 2]]])


def test_kth_values_of_several_expressions(make, models, base, tau):
    ranks = [[0, N - 1], [N // 3, 7], [5, N // 2]]
    found = make(models, base).kth_values(lambda chunk: chunk.values.square(), ranks)
    squares = np.sort(tau * tau, axis=1)
    np.testing.assert_array_equal(found, [row[wanted] for row, wanted in zip(squares, ranks, strict=True)])


def test_total_over_rows(make, models, base, tau):
    found = make(models, base).total(lambda chunk: chunk.rows.double().sum(1), rows=True)
    np.testing.assert_allclose(found, tau.astype(np.float64).reshape(K, *SHAPE).sum(1), rtol=1e-9, atol=1e-9)


def band_and_drop() -> Sparsity:
    return Sparsity(
        (0.0005, 0.0, 0.001), (0.002, math.inf, 0.0015), (1.0, 0.4, 0.7), (0.0, 0.0, 0.0), (2.0, 2.5, 1.0)
    )


def kept(tau: np.ndarray, sparsity: Sparsity) -> np.ndarray:
    """The sparsity's meaning, entry by entry, with the counter's numbers from their published definition."""
    rows = tau.astype(np.float64)
    for k in range(K):
        size = abs(tau[k])
        mask = (size >= np.float32(sparsity.floor[k])) & (size < np.float32(sparsity.ceiling[k]))
        if sparsity.keep[k] < 1:
            mask &= splitmix(KEY.stream(k), N) < sparsity.keep[k]
        rows[k] = np.where(mask, rows[k] * sparsity.scale[k], 0)
    return rows


def splitmix(seed: int, count: int) -> np.ndarray:
    numbers, state, mask = [], seed, (1 << 64) - 1
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & mask
        z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        numbers.append(((z ^ (z >> 31)) >> 40) / 2**24)
    return np.array(numbers)


def test_magnitudes_before_and_after(make, models, base, tau):
    sums = make(models, base).magnitudes(band_and_drop())
    np.testing.assert_allclose(sums[:, 0], abs(tau.astype(np.float64)).sum(1), rtol=1e-6)
    np.testing.assert_allclose(sums[:, 1], abs(kept(tau, band_and_drop())).sum(1), rtol=1e-6)


def test_weighted_sum_of_what_is_kept(make, models, base, tau):
    merged = Combination((0.5, -0.2, 1.0), band_and_drop(), divisor=2.0, factor=0.7)
    expected = base + 0.7 / 2.0 * np.array([0.5, -0.2, 1.0]) @ kept(tau, band_and_drop())
    np.testing.assert_allclose(result(make(models, base), merged), expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("shares", [None, (0.5, 0.2, 1.0)])
def test_election(make, models, base, tau, shares):
    weight = np.array([0.5, -0.2, 1.0])
    changes = weight[:, None] * kept(tau, band_and_drop())
    agrees = np.sign(changes) == np.where(changes.sum(0) >= 0, 1, -1)
    expected = (changes * agrees).sum(0)
    if shares:
        divisor = (agrees * np.array(shares)[:, None]).sum(0)
        expected = expected / np.where(divisor > 0, divisor, 1)
    merged = Combination(tuple(weight), band_and_drop(), elect=True, shares=shares)
    np.testing.assert_allclose(result(make(models, base), merged), base + expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("inverse", [True, False])
def test_drop_by_rank_within_rows(make, models, base, tau, inverse):
    ones, zeros = (1.0,) * K, (0.0,) * K
    sparsity = Sparsity(zeros, (math.inf,) * K, (0.5, 0.6, 1.0), (0.2, 0.1, 0.0), ones, inverse)
    expected = base.astype(np.float64)
    for k in range(K):
        row = tau[k].reshape(SHAPE)
        ranks = abs(row).argsort(1, kind="stable").argsort(1)
        p = sparsity.keep[k] - sparsity.spread[k] + 2 * sparsity.spread[k] * ranks.ravel() / (SHAPE[1] - 1)
        scale = 1 / p if inverse else 1.0
        expected += np.where(splitmix(KEY.stream(k), N) < p, tau[k] * scale, 0)
    merged = Combination(ones, sparsity)
    np.testing.assert_allclose(result(make(models, base), merged), expected, rtol=1e-5, atol=1e-8)


def test_mapped_chunks_of_whole_rows(make, models, base, tau):
    rows = tau.reshape(K, *SHAPE)
    expected = base + 0.5 * np.broadcast_to(rows.max((0, 2))[:, None], SHAPE).ravel()
    merged = (
        Mapped(lambda chunk: chunk.rows.amax((0, 2))[:, None].expand(-1, chunk.row).reshape(-1), rows=True)
        * 0.5
    )
    np.testing.assert_allclose(result(make(models, base), merged), expected, rtol=1e-6)


def test_random_numbers_of_chunks_are_the_counters(make, models, base):
    merged = Mapped(lambda chunk: chunk.uniform()[1])
    np.testing.assert_allclose(
        result(make(models, base), merged) - base, splitmix(KEY.stream(1), N), atol=1e-7
    )


@pytest.mark.parametrize(("dtype", "torch_dtype"), [("BF16", torch.bfloat16), ("F16", torch.float16)])
def test_one_cast_at_the_end(make, models, base, dtype, torch_dtype):
    merged = Combination((0.3, 0.3, 0.3), Sparsity.none(K))
    exact = torch.from_numpy(result(make(models, base), merged))
    cast = result(make(models, base), merged, dtype)
    assert np.array_equal(cast.view(np.int16), exact.to(torch_dtype).view(torch.int16).numpy())


def test_bits_are_read_as_the_numbers_they_are(make, models, base):
    bits = np.empty((K + 1, N), np.uint16)
    wide = np.empty((K + 1, N), np.float32)
    for row, given, back in zip(bits, [base, *models], wide, strict=True):
        narrow(given, row)
        widen(row, back)
    merged = Combination((0.3, 0.3, 0.3), Sparsity.none(K), elect=True)
    assert np.array_equal(
        result(make(bits[1:], bits[0]), merged, "BF16"), result(make(wide[1:], wide[0]), merged, "BF16")
    )


def test_survival_counts_what_the_cast_loses(make, models, base):
    start = torch.from_numpy(base).bfloat16().float().numpy()
    compute = make(models, start)
    merged = Combination((0.1, 0.0, 0.0), Sparsity.none(K))
    exact = result(compute, merged).astype(np.float64)
    written = torch.from_numpy(exact).float().bfloat16().double().numpy()
    for _ in compute.evaluate(merged, "BF16", survival=True):
        pass
    moves = exact != start
    expected = [
        moves.sum(),
        (moves & (written == start)).sum(),
        ((exact - start) ** 2).sum(),
        ((written - exact) ** 2).sum(),
    ]
    np.testing.assert_allclose(compute.survival, expected, rtol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_named(make, models, base, bad):
    broken = models.copy()
    broken[1, CHUNK + 5] = bad
    with pytest.raises(CheckpointError, match="tensor holds NaN or infinite values"):
        result(make(broken, base), Combination((1.0,) * K, Sparsity.none(K)))


def test_rounding_is_to_nearest_even():
    values = np.random.default_rng(0).integers(0, 1 << 32, 100_000, dtype=np.uint32).view(np.float32)
    values = values[np.isfinite(values)]
    out = np.empty(values.size, np.uint16)
    narrow(values, out)
    expected = torch.from_numpy(values).bfloat16().view(torch.int16).numpy().view(np.uint16)
    assert np.array_equal(out, expected)


def test_bits_do_not_depend_on_the_buffers_length(models, base):
    """A tensor's first half alone gives what it gives in the whole."""
    half = 2 * CHUNK // 2
    merged = Combination((0.5, -0.2, 1.0), band_and_drop(), elect=True, shares=(1.0, 1.0, 1.0))
    whole = result(
        NativeCompute([ArrayRows(r) for r in models], ArrayRows(base), (N,), KEY, Workspace()), merged
    )
    part = result(
        NativeCompute(
            [ArrayRows(r[:half]) for r in models], ArrayRows(base[:half]), (half,), KEY, Workspace()
        ),
        merged,
    )
    assert np.array_equal(whole[:half], part)
