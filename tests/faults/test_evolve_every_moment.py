"""``mergery evolve`` with the default algorithm, killed at twenty random points of one search."""

from __future__ import annotations

import random
import signal

from killed import lines_in, start, trials_in, wait_for, write_search

KILLS = 20


def test_killed_at_twenty_points_it_ends_where_the_uninterrupted_search_ends(make_model, tmp_path):
    search = write_search(make_model, tmp_path, budget=12000)
    whole, out = tmp_path / "whole", tmp_path / "killed"
    process = start(search, whole)
    _, complained = process.communicate()
    assert process.returncode == 0, complained

    points = sorted(random.Random(11).sample(range(2, len(lines_in(whole))), KILLS))
    before: list[tuple[object, ...]] = []
    for point in points:
        process = start(search, out)
        wait_for(lambda reached=point: len(lines_in(out)) >= reached, process)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        after = trials_in(out)
        assert after[: len(before)] == before  # no trial is lost
        begun = sum(line["op_code"] == 4 for line in lines_in(out))
        assert begun - len(after) <= 1  # so one evaluation at most is repeated
        before = after
    process = start(search, out)
    _, complained = process.communicate()
    assert process.returncode == 0, complained

    assert trials_in(out) == trials_in(whole)
    for name in ("best.yml", "model/model.safetensors"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()
