"""The benchmarks' own tools: what they make, what they measure, what they remember."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from bench.compare import likeness, tensors
from bench.generated import METHODS, generate
from bench.measure import measure
from bench.records import Records
from bench.rows import ROWS, recipe, row_of
from safetensors.torch import load_file

from bench import cache, floor, models
from mergery import Recipe
from mergery.methods import get_method, method_names

MIB = 2**20


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> models.Models:
    return models.make(tmp_path_factory.mktemp("work"), "tiny", 2)


def test_models_are_a_base_and_experts_near_it(made: models.Models) -> None:
    base, one, two = (load_file(path / "model.safetensors") for path in (made.base, *made.experts))
    assert list(base) == [name for name, _ in models.SIZES["tiny"].tensors()]
    head = base["lm_head.weight"].float()
    assert head.std().item() == pytest.approx(models.WEIGHT_SD, rel=0.05)
    changes = [expert["lm_head.weight"].float() - head for expert in (one, two)]
    assert [change.std().item() for change in changes] == pytest.approx([models.NOISE_SD] * 2, rel=0.05)
    assert not torch.equal(*changes)
    assert base["model.norm.weight"].float().mean().item() == pytest.approx(1.0, abs=0.02)


def test_models_are_made_once_and_links_stand_for_more(tmp_path: Path) -> None:
    few = models.make(tmp_path, "tiny", 3, distinct=1)
    before = (few.base / "model.safetensors").stat().st_mtime_ns
    assert [path.is_symlink() for path in few.experts] == [False, True, True]
    assert cache.weights(few.experts[2]) == cache.weights(few.experts[0])
    all_of_them = models.make(tmp_path, "tiny", 3)
    assert not any(path.is_symlink() for path in all_of_them.experts)
    assert (all_of_them.base / "model.safetensors").stat().st_mtime_ns == before


def test_sparse_models_read_as_zeros_and_take_no_room(tmp_path: Path) -> None:
    made = models.make_sparse(tmp_path, "62m", 1)
    file = made.base / "model.safetensors"
    assert file.stat().st_size > 100 * MIB
    assert file.stat().st_blocks * 512 < MIB
    assert not tensors(made.base)["model.norm.weight"].read().any()


def test_bfloat16_is_rounded_to_even() -> None:
    values = np.array([1.0, 1.00390625, 1.01171875, -2.7182817, 3e-40], np.float32)
    expected = torch.from_numpy(values).bfloat16().view(torch.int16).numpy().view(np.uint16)
    assert np.array_equal(models._to_bfloat16(values), expected)


def test_likeness_of_a_merge_with_itself_and_with_another(made: models.Models) -> None:
    same = likeness(made.experts[0], made.experts[0], made.base)
    assert (same.differing, same.largest, same.error, same.change) == (0.0, 0.0, 0.0, 1.0)
    other = likeness(made.experts[0], made.experts[1], made.base)
    assert other.error == pytest.approx(2**0.5, rel=0.05)  # independent changes of equal size


def test_a_process_is_measured_with_its_children() -> None:
    hold = f"b = bytearray(b'1' * {64 * MIB}); import time; time.sleep(0.5)"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hold!r}]); print('done')"
    found = measure([sys.executable, "-c", child])
    assert (found.code, found.output) == (0, "done\n")
    assert 0.5 < found.wall < 10
    assert 64 * MIB < found.anonymous < 160 * MIB
    assert 0 < found.cpu < found.wall


@pytest.mark.parametrize(
    ("limit", "reason"),
    [({"limit_s": 0.2}, "more than 0 s"), ({"limit_bytes": 40 * MIB}, "more than 40 MiB")],
)
def test_a_process_ends_at_its_limit(limit: dict, reason: str) -> None:
    hold = f"b = bytearray(b'1' * {64 * MIB}); import time; time.sleep(60)"
    found = measure([sys.executable, "-c", hold], **limit)
    assert found.code < 0
    assert reason in found.error


def test_a_failure_says_its_last_line() -> None:
    found = measure([sys.executable, "-c", "raise SystemExit('no disk')"])
    assert (found.code, found.error) == (1, "no disk")


def test_files_leave_the_page_cache_and_come_back(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"1" * MIB)
    try:
        cache.drop([file])
    except RuntimeError as problem:  # a file system in memory
        pytest.skip(str(problem))
    assert cache.resident(file) == 0.0
    cache.warm([file])
    assert cache.resident(file) == 1.0


def test_the_floor_writes_as_much_as_the_last_input(tmp_path: Path) -> None:
    for name, size in (("a", 3), ("b", 9 * MIB + 5)):
        (tmp_path / name).write_bytes(b"1" * size)
    inputs = [str(tmp_path / "a"), str(tmp_path / "b")]
    for options in ([], ["--fsync"]):
        subprocess.run([sys.executable, floor.__file__, *options, str(tmp_path / "out"), *inputs], check=True)
        assert (tmp_path / "out").stat().st_size == 9 * MIB + 5
        (tmp_path / "out").unlink()


def test_records_survive_and_count_only_what_ended_well(tmp_path: Path) -> None:
    records = Records(tmp_path / "records.jsonl")
    records.note(tool="a", code=0, wall=2.0)
    records.note(tool="a", code=1, wall=9.0)
    again = Records(tmp_path / "records.jsonl")
    assert again.numbers("wall", tool="a") == [2.0]
    assert len(again.of(tool="a")) == 2
    assert not Records(tmp_path / "records.jsonl", fresh=True).of(tool="a")


EIGHT = models.Models(Path("base"), tuple(Path(f"expert-{number}") for number in range(1, 9)))


@pytest.mark.parametrize("name", ROWS)
def test_timed_recipes_are_recipes(name: str) -> None:
    if ROWS[name].method in method_names():
        Recipe.from_dict(recipe(ROWS[name], EIGHT, 8))


@pytest.mark.parametrize("name", method_names())
def test_every_method_has_a_recipe(name: str) -> None:
    Recipe.from_dict(recipe(row_of(name), EIGHT, 8))


def test_generated_recipes_are_the_same_for_the_same_seed() -> None:
    one, same, other = (generate(60, seed, Path("models")) for seed in (0, 0, 1))
    assert one == same
    assert one != other
    assert [made.method for made in one[:20]] == list(METHODS)


def test_generated_recipes_cover_the_grammar() -> None:
    traits = {trait for made in generate(200, 0, Path("models")) for trait in made.traits}
    assert traits >= {
        *("slices", "modules", "gradient", "filters", "negative weight"),
        *("base listed", "base of a slice", "normalize", "no normalize", "rescale"),
    }


def test_generated_recipes_are_recipes() -> None:
    for made in generate(200, 0, Path("models")):
        if made.method in method_names():
            assert Recipe.from_dict(made.data).merge_method == get_method(made.method).name
