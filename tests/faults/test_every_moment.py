"""A merge killed, interrupted and starved at each of its moments: a few minutes of ``make faults``.

A moment is a call that writes, renames, removes or syncs something of the merge's own. The tests take them
in turn, every one from its share on, until a merge comes to its end undisturbed.
"""

from __future__ import annotations

import random
import shutil
import signal
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path

import pytest

from witnessed import (
    Merging,
    contents,
    fill,
    finishes,
    small_disk,
    wait_until_stopped,
    write_models,
    write_recipe,
)

SHARES = 8
LIMIT = 400
"""More moments than a merge of these models has."""

in_shares = pytest.mark.parametrize("share", range(1, SHARES + 1))


@pytest.fixture(scope="session")
def recipe(tmp_path_factory, tokenizer) -> Path:
    home = tmp_path_factory.mktemp("models")
    return write_recipe(home, write_models(home, tokenizer))


@pytest.fixture(scope="session")
def whole(recipe) -> Mapping[str, bytes]:
    merging = Merging(recipe, recipe.parent / "whole" / "out")
    ended = merging.run()
    assert ended.code == 0, ended
    return contents(merging.out)


@pytest.fixture
def places(recipe, tmp_path) -> Iterator[Merging]:
    """Merges, each in an empty place."""

    def fresh(threads: int) -> Iterator[Merging]:
        for number in range(LIMIT):
            place = tmp_path / f"place{number}"
            yield Merging(recipe, place / "out", threads)
            shutil.rmtree(place)
        pytest.fail("the merge has no end")

    return fresh


def survives(merging: Merging, whole: Mapping[str, bytes]) -> None:
    """Whatever happened, there is a whole result, or none and the same command gives it."""
    if merging.out.exists():
        assert contents(merging.out) == whole
        assert [path.name for path in merging.out.parent.iterdir()] == ["out"]
        assert merging.run().code == 2
        assert contents(merging.out) == whole
    else:
        finishes(merging, merging.recorded, whole)


@in_shares
@pytest.mark.parametrize("threads", [1, 2])
def test_killed_at_every_moment(places, whole, share, threads):
    for moment, merging in zip(count(share, SHARES), places(threads), strict=False):
        ended = merging.run("kill", moment, merging.place)
        if ended.code == 0:
            assert contents(merging.out) == whole
            assert moment > share + SHARES
            break
        assert ended.code == -signal.SIGKILL, ended
        survives(merging, whole)


@in_shares
def test_killed_half_way_through_every_write(places, whole, share):
    for moment, merging in zip(count(share, SHARES), places(1), strict=False):
        ended = merging.run("half", moment, f"pwrite{merging.place}")
        if ended.code == 0:
            assert moment > share + SHARES
            break
        assert ended.code == -signal.SIGKILL, ended
        survives(merging, whole)


@in_shares
def test_killed_again_while_it_resumes(places, whole, share):
    dice = random.Random(share)
    for moment, merging in zip(count(share, 2 * SHARES), places(2), strict=False):
        if merging.run("kill", moment, merging.place).code == 0:
            break
        before = merging.recorded
        if not merging.out.exists():
            again = merging.run("kill", dice.randint(1, 60), merging.place)
            assert again.code in (0, -signal.SIGKILL), again
            # the record itself is removed at the last moment only
            assert merging.recorded >= before or f"os.remove {merging.staging}/merge.journal" in again.events
        survives(merging, whole)


@in_shares
def test_interrupted_by_the_user(places, whole, share):
    for moment, merging in zip(count(share, 2 * SHARES), places(1), strict=False):
        with merging.running("stop", moment, merging.place) as process:
            stopped = wait_until_stopped(process)
            if stopped:
                process.send_signal(signal.SIGINT)
                process.send_signal(signal.SIGCONT)
            ended = merging.ended(process)
        if not stopped:
            break
        assert ended.code == 130, ended
        survives(merging, whole)


@in_shares
def test_a_disk_that_becomes_full(recipe, tmp_path, whole, share):
    for moment in range(share, LIMIT, SHARES):
        with small_disk(tmp_path / f"disk{moment}") as disk:
            merging = Merging(recipe, disk / "out")
            pattern = f"(open|os.mkdir|posix_fallocate){merging.place}"
            with merging.running("stop", moment, pattern) as process:
                stopped = wait_until_stopped(process)
                if stopped:
                    fill(disk)
                    process.send_signal(signal.SIGCONT)
                ended = merging.ended(process)
            if not stopped:
                break
            # some have room in a page that was begun
            assert ended.code in (0, 2), ended
            (disk / "filler").unlink()
            if ended.code == 2:
                assert ": cannot be written: No space left on device" in ended.complained
                assert not merging.out.exists()
            survives(merging, whole)
