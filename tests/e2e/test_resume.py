"""``mergery merge`` killed, stopped and starved: nothing is lost, nothing half-written, nothing left beside.

``make faults`` does the same at every moment of a merge; here are the moments that differ most.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from witnessed import (
    FILES,
    Merging,
    contents,
    fill,
    finishes,
    small_disk,
    wait_until_stopped,
    write_models,
    write_recipe,
)

TENSOR = r"[1-9]\d* \d+$"
"""Place and size of a write that is behind the header."""


@pytest.fixture(scope="module")
def models(tmp_path_factory, tokenizer) -> list[Path]:
    return write_models(tmp_path_factory.mktemp("models"), tokenizer)


@pytest.fixture(scope="module")
def recipe(models) -> Path:
    return write_recipe(models[0].parent, models)


@pytest.fixture(scope="module")
def whole(recipe) -> dict[str, bytes]:
    """The result of a merge that nobody interrupts."""
    merging = Merging(recipe, recipe.parent / "whole" / "out")
    ended = merging.run()
    assert (ended.code, ended.written) == (0, set(FILES)), ended.complained
    return contents(merging.out)


@pytest.fixture
def merging(recipe, tmp_path) -> Merging:
    return Merging(recipe, tmp_path / "place" / "out")


@pytest.fixture
def own(models, tmp_path) -> Merging:
    """The same merge, of models that a test may spoil."""
    copies = [Path(shutil.copytree(model, tmp_path / model.name)) for model in models]
    return Merging(write_recipe(tmp_path, copies), tmp_path / "place" / "out")


def refused(merging: Merging, process: subprocess.Popen, *words: str) -> None:
    """It ends with a user's error that has these words, and leaves nothing at all."""
    ended = merging.ended(process)
    assert ended.code == 2, ended
    assert all(word in ended.complained for word in words), ended.complained
    assert "fix: " in ended.complained
    assert list(merging.out.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("action", "count", "pattern", "kept"),
    [
        ("half", 3, rf"pwrite .*00002-of.* {TENSOR}", 1),
        ("kill", 3, r"open .*merge\.journal$", 2),
        ("kill", 1, r"open .*/\.out\.partial/tokenizer_config\.json$", 4),
        # the record is gone, so nothing vouches for the files
        ("kill", 1, r"os\.rename .*\.partial$", 0),
    ],
)
def test_killed_and_run_again(merging, whole, action, count, pattern, kept):
    ended = merging.run(action, count, pattern)
    assert ended.code == -signal.SIGKILL, ended
    finishes(merging, set(FILES[:kept]), whole)


@pytest.fixture(scope="module")
def all_finished(recipe) -> Path:
    """A staging directory as a kill leaves it, all of whose shards are finished."""
    merging = Merging(recipe, recipe.parent / "killed" / "out")
    ended = merging.run(pattern=r"open .*partial/config\.json$")
    assert (ended.code, merging.recorded) == (-signal.SIGKILL, set(FILES))
    return merging.staging


def test_finished_shards_that_are_spoilt_are_made_again(merging, all_finished, whole):
    shutil.copytree(all_finished, merging.staging)
    with (merging.staging / FILES[1]).open("r+b") as file:
        file.seek(500_000)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 1]))
    with (merging.staging / FILES[2]).open("r+b") as file:
        file.truncate(500_000)
    (merging.staging / FILES[3]).unlink()
    finishes(merging, {FILES[0]}, whole)


def test_what_another_recipe_left_is_not_used(merging, models, tmp_path, all_finished):
    other = Merging(write_recipe(tmp_path, models, parameters={"weight": 0.25}), tmp_path / "alone" / "out")
    assert other.run().code == 0
    after = Merging(other.recipe, merging.out)
    shutil.copytree(all_finished, after.staging)
    finishes(after, set(), contents(other.out))


def test_what_was_made_of_other_inputs_is_not_used(own, tmp_path):
    assert own.run(pattern=r"open .*partial/config\.json$").code == -signal.SIGKILL
    assert own.recorded == set(FILES)
    file = tmp_path / "one" / "model.safetensors"
    tensors = load_file(file)
    save_file(tensors | {"model.norm.weight": tensors["model.norm.weight"] + 1}, file, {"format": "pt"})
    alone = Merging(own.recipe, tmp_path / "alone" / "out")
    assert alone.run().code == 0
    finishes(own, set(), contents(alone.out))


def overwrite(file: Path) -> None:
    with file.open("r+b") as stream:
        stream.seek(file.stat().st_size - 40)
        stream.write(bytes(40))


def replace(file: Path) -> None:
    shutil.copyfile(file, file.with_name("new"))
    file.with_name("new").rename(file)


@pytest.mark.parametrize(
    ("spoil", "file", "words"),
    [
        (overwrite, "one/model.safetensors", "it has changed while it was being merged"),
        (replace, "base/model.safetensors", "it has changed while it was being merged"),
        (lambda file: os.truncate(file, 1_000_000), "one/model.safetensors", "it ends inside model.layers."),
        (overwrite, "base/tokenizer.json", "it has changed while it was being merged"),
    ],
)
def test_an_input_that_changes_meanwhile(own, tmp_path, spoil, file, words):
    with own.running("stop", 1, rf"pwrite .*00001-of.* {TENSOR}") as process:
        assert wait_until_stopped(process)
        spoil(tmp_path / file)
        process.send_signal(signal.SIGCONT)
        refused(own, process, f"{tmp_path / file}: ", words)


def test_an_infinity_in_an_input(own, tmp_path):
    file = tmp_path / "two" / "model-00002-of-00002.safetensors"
    tensors = load_file(file)
    name = sorted(tensors)[-1]
    tensors[name].view(-1)[7] = torch.inf
    save_file(tensors, file, {"format": "pt"})
    with own.running("kill", 1, "(?!)") as process:
        refused(own, process, f"{file}: {name} holds NaN or infinite values")


def test_two_merges_to_one_place(merging, whole):
    with merging.running("stop", 1, rf"pwrite .*00002-of.* {TENSOR}") as first:
        assert wait_until_stopped(first)
        second = Merging(merging.recipe, merging.out).run()
        assert (second.code, "another merge is writing there" in second.complained) == (2, True)
        first.send_signal(signal.SIGCONT)
        assert merging.ended(first).code == 0
    assert contents(merging.out) == whole
    assert [path.name for path in merging.out.parent.iterdir()] == ["out"]


def test_the_later_of_two_merges_finds_the_place_taken(merging, whole):
    with merging.running("stop", 1, r"os\.mkdir .*partial$") as later:
        assert wait_until_stopped(later)
        assert merging.run().code == 0
        later.send_signal(signal.SIGCONT)
        ended = merging.ended(later)
        assert (ended.code, "out: it already holds something" in ended.complained) == (2, True)
    assert contents(merging.out) == whole
    assert [path.name for path in merging.out.parent.iterdir()] == ["out"]


def test_ctrl_c(merging, whole):
    with merging.running("stop", 1, rf"pwrite .*00003-of.* {TENSOR}") as process:
        assert wait_until_stopped(process)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGCONT)
        assert merging.ended(process).code == 130
    assert merging.recorded >= set(FILES[:2])
    assert not list(merging.staging.glob("unfinished-*"))
    finishes(merging, merging.recorded, whole)


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk") as place:
        yield place


@pytest.mark.parametrize(
    ("pattern", "file", "kept"),
    [
        (r"posix_fallocate .*00003-of", FILES[2], 0),
        # the rest of a page takes the first line, and a part of the second
        (r"open .*partial/merge\.journal$", "merge.journal", 1),
    ],
)
def test_a_disk_that_becomes_full(recipe, disk, whole, pattern, file, kept):
    merging = Merging(recipe, disk / "out")
    with merging.running("stop", 1, pattern) as process:
        assert wait_until_stopped(process)
        fill(disk)
        process.send_signal(signal.SIGCONT)
        ended = merging.ended(process)
    assert ended.code == 2, ended
    assert f"{file}: cannot be written: No space left on device" in ended.complained
    assert "fix: make room on the disk and run the same command again" in ended.complained
    assert sorted(path.name for path in disk.iterdir()) == [".out.partial", "filler"]
    (disk / "filler").unlink()
    finishes(merging, set(FILES[:kept]), whole)


def test_a_file_larger_than_is_allowed(merging, whole):
    with merging.running("stop", 1, r"os\.mkdir .*partial$") as process:
        assert wait_until_stopped(process)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (900_000, 900_000))
        process.send_signal(signal.SIGCONT)
        ended = merging.ended(process)
    assert ended.code == 2, ended
    assert f"{FILES[0]}: cannot be written: File too large" in ended.complained
    finishes(merging, set(), whole)
