"""``mergery evolve`` killed with SIGKILL, again and again, against the same search left alone."""

from __future__ import annotations

import json
import random
import signal
import time
from pathlib import Path

import pytest

from killed import start, trials_in, wait_for, write_search

TRIALS = 20


@pytest.fixture
def search(make_model, tmp_path) -> Path:
    settings = {"algorithm": "cma-es", "trials": TRIALS, "population": 6, "sigma": 0.2, "racing": True}
    return write_search(make_model, tmp_path, **settings)


def test_killed_at_any_moment_it_ends_where_the_uninterrupted_search_ends(search, tmp_path):
    whole, out = tmp_path / "whole", tmp_path / "killed"
    process = start(search, whole)
    said, complained = process.communicate()
    assert process.returncode == 0, complained
    assert f"trial {TRIALS}/{TRIALS}  best" in said
    assert "left" in said
    assert len(trials_in(whole)) == TRIALS

    dice = random.Random(7)
    before: list[tuple[object, ...]] = []
    moments = [
        lambda: len(trials_in(out)) >= 1,
        lambda: len(trials_in(out)) >= dice.randint(8, 14),
        lambda: len(trials_in(out)) == TRIALS,  # finalists are asked what was held back
        (out / "best.yml").exists,
        (out / "model").exists,
    ]
    for moment in moments:
        process = start(search, out)
        wait_for(moment, process)
        time.sleep(dice.uniform(0.0, 0.01))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        after = trials_in(out)
        assert after[: len(before)] == before
        before = after
    process = start(search, out)
    _, complained = process.communicate()
    assert process.returncode == 0, complained

    assert trials_in(out) == trials_in(whole)
    for name in ("best.yml", "model/model.safetensors", "search.png"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()
    reports = [json.loads((home / "report.json").read_text()) for home in (out, whole)]
    assert reports[0]["best"] == reports[1]["best"]
    assert sorted(path.name for path in out.iterdir()) == sorted(path.name for path in whole.iterdir())


def test_mistakes_end_with_2_and_write_nothing(search, tmp_path):
    out = tmp_path / "out"
    search.write_text(search.read_text().replace("sigma", "sgima"))
    process = start(search, out)
    said, complained = process.communicate()
    assert process.returncode == 2
    assert complained == "search.sgima: unknown key\nfix: did you mean sigma?\n"
    assert said == ""
    assert not out.exists()
