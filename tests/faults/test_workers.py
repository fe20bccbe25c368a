"""A hundred candidates that kill their workers, hang, or trip over themselves: the search goes on."""

from __future__ import annotations

import math
from collections import Counter

from misbehaving import SPACE, OpenFormula, formula, search_formula

WAYS = ("kill", "kill", "hang", "hold", "segfault", "exit", "nan", "nan", "nan", "error", "error", "memory")
HEALTHY = ("",) * 8


def test_a_hundred_faults_end_no_search(tmp_path):
    ways = WAYS + HEALTHY
    opening = OpenFormula(tmp_path / "log", ways=ways)
    trials = search_formula(tmp_path, opening, workers=3, trials=200, timeout=1.0)
    assert sorted(trial.told for trial in trials) == list(range(200))
    failed = [trial for trial in trials if trial.failure is not None]
    assert len(failed) >= 100
    assert len(Counter(trial.failure for trial in failed)) == len({*WAYS}) - 1  # two ways to hang
    for trial in trials:
        way = ways[int(trial.recipe[:2], 16) % len(ways)]
        assert (trial.failure is None) == (not way)
        if trial.whole:
            expected = formula(SPACE.candidate(trial.genome).recipe).mean(dtype="float64")
            assert math.isclose(trial.score, expected, rel_tol=1e-12)
