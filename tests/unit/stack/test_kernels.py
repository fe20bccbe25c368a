"""The compiled loops where their shortcuts end: other widths, many equals, odd sizes."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mergery.stack import kernels
from mergery.stack.kernels.rank import ranks, sorting_buffers


def _rounded(values):
    """float32 numbers that bfloat16 has, too."""
    bits = np.empty(values.size, np.uint16)
    kernels.narrow(values.astype(np.float32), bits)
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _rows(size):
    generator = np.random.default_rng(size)
    normal = generator.normal(size=size).astype(np.float32)
    base = _rounded(0.02 * normal)
    change = _rounded(base + 0.001 * generator.normal(size=size)) - base
    return {
        "differences of bfloat16": change,
        "float32": normal,
        "bfloat16": _rounded(normal),
        "zeros": np.zeros(size, np.float32),
        "one number": np.full(size, -0.3, np.float32),
        "half of them zero": np.where(generator.random(size) < 0.5, np.float32(0), change),
        "of every size": (np.exp(generator.uniform(-85, 85, size))).astype(np.float32),
        "denormal": (generator.random(size) * 1e-39).astype(np.float32),
        "close together": (1 + 1e-3 * generator.random(size)).astype(np.float32),
    }


@pytest.mark.parametrize("size", [1, 2, 17, 896, 20_000])
def test_ranks_are_those_of_a_stable_sort(size):
    sorting, counts = sorting_buffers(size + 3)
    for name, values in _rows(size).items():
        expected = np.empty(size, np.int64)
        expected[np.argsort(np.abs(values), kind="stable")] = np.arange(size)
        np.testing.assert_array_equal(ranks(values, sorting, counts), expected, err_msg=name)


@pytest.mark.parametrize("size", [1, 63, 64, 1000, 20_000])
def test_lower_bits_are_counted_where_the_upper_are_wanted(size):
    for name, values in _rows(size).items():
        bits = np.abs(values).view(np.uint32)
        wanted = np.array([[bits[0] >> 16, bits[-1] >> 16]], np.uint32)
        found = np.zeros((1, 2, 1 << 16), np.int64)
        kernels.refine(values[None], False, wanted, found)
        for upper, counts in zip(wanted[0], found[0], strict=True):
            expected = np.bincount(bits[bits >> 16 == upper] & 0xFFFF, minlength=1 << 16)
            np.testing.assert_array_equal(counts, expected, err_msg=name)


@pytest.mark.parametrize("size", [1, 63, 2048, 4100, 20_000])
def test_what_lies_in_a_bracket_is_sifted_out(size):
    for name, values in _rows(size).items():
        bits = np.abs(values).view(np.uint32)
        low, high = np.sort(bits)[[size // 3, size // 2]]
        brackets = [(low, low, high + 1), (low, high, high + 1), (0, low, high + 1), (low, bits[0], 1 << 31)]
        found = np.zeros((1, 4, 3), np.int64), np.zeros((1, 4, size + 4096), np.uint32), np.zeros((1, 4), int)
        kernels.sift(values[None], False, np.array([brackets], np.uint32), *found)
        for (first, inside, behind), tally, kept, count in zip(
            brackets, *(part[0] for part in found), strict=True
        ):
            expected = [(bits < first).sum(), (bits == first).sum(), (bits == inside).sum()]
            assert tally.tolist() == expected, name
            others = bits[(bits > first) & (bits < behind) & (bits != inside)]
            np.testing.assert_array_equal(np.sort(kept[:count]), np.sort(others), err_msg=name)


def test_survival_counts_what_the_cast_loses():
    generator = np.random.default_rng(3)
    base = _rounded(0.02 * generator.normal(size=10_001))
    exact = np.where(generator.random(base.size) < 0.3, base, base + 1e-4 * generator.normal(size=base.size))
    exact = exact.astype(np.float32)
    written = _rounded(exact)
    found = np.zeros(4)
    kernels.survival(base, exact, written, found)
    changed = exact != base
    assert found[:2].tolist() == [changed.sum(), (changed & (written == base)).sum()]
    expected = [np.sum((a - b).astype(np.float64) ** 2) for a, b in ((exact, base), (written, exact))]
    np.testing.assert_allclose(found[2:], expected, rtol=1e-12)


def test_machine_code_is_kept_between_processes_and_not_older_than_its_sources(tmp_path):
    source = tmp_path / "loops"
    source.mkdir()
    shutil.copy(Path(kernels.__file__).with_name("compiled.py"), source)
    inner = "from compiled import compiled\n\n@compiled\ndef inner(x):\n    return x + {}\n"
    (source / "inner.py").write_text(inner.format(1))
    (source / "outer.py").write_text(
        "from compiled import compiled\nfrom inner import inner\n\n"
        "@compiled\ndef outer(x):\n    return inner(x)\n\n"
        "print(outer(1), sum(outer.stats.cache_hits.values()))\n"
    )

    def run():
        environment = {**os.environ, "PYTHONPATH": str(source), "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-c", "import outer"]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    assert [run(), run()] == ["2 0\n", "2 1\n"]
    (source / "inner.py").write_text(inner.format(2))
    assert run() == "3 0\n"
