"""Order statistics of large tensors, which are looked for near a sample's, against numpy's sort."""

from __future__ import annotations

import numpy as np
import pytest

from mergery.stack import RandomKey
from mergery.stack.kernels import narrow, widen
from mergery.stack.native import NativeCompute, Workspace
from mergery.stack.rows import ArrayRows

N = (1 << 19) + 12_345
GENERATOR = np.random.default_rng(5)
BASE = GENERATOR.normal(0, 0.02, N).astype(np.float32)
CHANGED = (BASE + GENERATOR.normal(0, 0.001, N)).astype(np.float32)
RANKS = [0, 1, N // 5, N // 2, N - N // 10, N - 2, N - 1]


class Counted(ArrayRows):
    """Knows how many of its elements were read."""

    elements = 0

    def read(self, start, out):
        self.elements += out.size
        super().read(start, out)


def _bits(values):
    bits = np.empty(N, np.uint16)
    narrow(values, bits)
    return bits


def _wide(bits):
    values = np.empty(N, np.float32)
    widen(bits, values)
    return values


def _found(base, model, ranks):
    """By rank, and how often the model was read."""
    rows = Counted(model)
    compute = NativeCompute([rows], ArrayRows(base), (N,), RandomKey(1, "weight"), Workspace())
    return compute.kth_magnitude([ranks])[0], rows.elements / N


def _expected(base, model, ranks):
    return np.sort(np.abs(_wide(model) - _wide(base)))[ranks]


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(CHANGED, id="all changed"),
        pytest.param(np.where(GENERATOR.random(N) < 0.7, BASE, CHANGED), id="most as before"),
        pytest.param(BASE, id="none changed"),
    ],
)
@pytest.mark.parametrize("kept", [_bits, lambda values: values], ids=["bfloat16", "float32"])
def test_they_are_exact_after_one_reading(model, kept):
    base, model = kept(BASE), kept(model)
    for rank in RANKS:
        found, readings = _found(base, model, [rank])
        assert found == _expected(base, model, [rank])
        assert readings < 1.1


def test_they_are_exact_after_two_readings_where_neighbours_are_alike():
    model = np.where(np.arange(N) < N // 3, BASE, CHANGED)
    found, readings = _found(BASE, model, [N // 2])
    assert found == _expected(BASE, model, [N // 2])
    assert 2 < readings < 2.1


def test_several_ranks_at_once():
    found, readings = _found(BASE, CHANGED, RANKS[2:5])
    np.testing.assert_array_equal(found, _expected(BASE, CHANGED, RANKS[2:5]))
    assert readings < 1.1


def test_a_sample_that_misleads_costs_time_alone():
    """Where the sample looks, the changes are ten times as large."""
    place = np.arange(N) % (16 << 13) - (8 << 13)
    model = np.where((place >= 0) & (place < 1 << 13), BASE + 10 * (CHANGED - BASE), CHANGED).astype(
        np.float32
    )
    found, readings = _found(BASE, model, [N // 2])
    assert found == _expected(BASE, model, [N // 2])
    assert readings > 2


def test_numbers_that_crowd_around_the_rank_cost_time_alone():
    """More of them lie near it than are kept: nothing is lost."""
    model = GENERATOR.uniform(1, 1.007, N).astype(np.float32)
    rank = N // 20
    found, readings = _found(np.zeros_like(model), model, [rank])
    assert found == np.sort(model)[rank]
    assert readings > 1.1


def test_a_number_that_many_equal_and_others_close_by():
    """Those that are equal are counted once, though they begin both the first and the last bin."""
    model = np.where(GENERATOR.random(N) < 0.85, 1, GENERATOR.uniform(1, 1.007, N)).astype(np.float32)
    ranks = [N // 2, N - N // 10]
    found, readings = _found(np.zeros_like(model), model, ranks)
    np.testing.assert_array_equal(found, np.sort(model)[ranks])
    assert readings < 1.1
