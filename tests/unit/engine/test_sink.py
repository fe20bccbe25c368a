"""Tensors into files that were laid out in advance: order does not matter, and what is finished stays."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import xxhash
from safetensors.numpy import load_file

from mergery.checkpoint.safetensors import TensorInfo
from mergery.engine.sink import DirectorySink, NullSink
from mergery.errors import OutputError

VALUES = {
    name: np.random.default_rng(size).standard_normal(size, np.float32)
    for name, size in (("z", 3), ("y", 5), ("x", 7), ("w", 2), ("v", 90))
}
TENSORS = [TensorInfo(name, "F32", value.shape, Path(), 0) for name, value in VALUES.items()]
FILES = [f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]


def sink(directory: Path, key: str = "key") -> DirectorySink:
    """Files of at most 40 bytes: z and y, x and w, and v, which is larger by itself."""
    return DirectorySink(directory, TENSORS, 40, key)


def put(into: DirectorySink, *names: str) -> None:
    """Write tensors in two pieces each."""
    for name in names:
        info = next(tensor for tensor in TENSORS if tensor.name == name)
        writer = into.open(info)
        writer.write(0, VALUES[name][:2])
        writer.write(2, VALUES[name][2:])
        writer.close({"inputs": [name]})


def put_and_stop(directory: Path, *names: str) -> None:
    with sink(directory) as into:
        put(into, *names)
        raise KeyboardInterrupt


def interrupted(directory: Path, *names: str) -> None:
    """Leave what an interrupted merge leaves."""
    with pytest.raises(KeyboardInterrupt):
        put_and_stop(directory, *names)


@pytest.mark.parametrize("order", ["zyxwv", "vwxyz", "xzvyw"])
def test_any_order_gives_the_same_files(tmp_path, order):
    with sink(tmp_path) as into:
        put(into, *order)
    for name, tensors in zip(FILES, ("zy", "xw", "v"), strict=True):
        held = load_file(tmp_path / name)
        assert sorted(held) == sorted(tensors)
        assert all(np.array_equal(held[tensor], VALUES[tensor]) for tensor in tensors)
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    places = dict(zip("zyxwv", [FILES[0]] * 2 + [FILES[1]] * 2 + [FILES[2]], strict=True))
    assert index == {"metadata": {"total_size": 4 * 107}, "weight_map": places}
    assert {name: known["xxh3"] for name, known in into.evidence.items()} == {
        name: xxhash.xxh3_128(value.tobytes()).hexdigest() for name, value in VALUES.items()
    }
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "merge.journal",
        *FILES,
        "model.safetensors.index.json",
    ]


def test_a_shard_has_its_name_when_its_last_tensor_is_there(tmp_path):
    with sink(tmp_path) as into:
        put(into, "y")
        assert not (tmp_path / FILES[0]).exists()
        put(into, "z")
        assert sorted(load_file(tmp_path / FILES[0])) == ["y", "z"]
        put(into, "x", "w", "v")


def test_finished_shards_are_kept_and_all_else_is_cleared_away(tmp_path):
    interrupted(tmp_path, "x", "w", "z")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["merge.journal", FILES[1]]
    before = (tmp_path / FILES[1]).stat()
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "folder").mkdir()
    with sink(tmp_path) as into:
        assert [name for name in VALUES if into.has(name)] == ["x", "w"]
        put(into, "z", "y", "v")
    assert (tmp_path / FILES[1]).stat().st_mtime_ns == before.st_mtime_ns
    assert into.evidence["w"]["inputs"] == ["w"]
    assert not (tmp_path / "tokenizer.json").exists()
    assert not (tmp_path / "folder").exists()


def test_shards_of_another_merge_are_removed(tmp_path):
    interrupted(tmp_path, "x", "w")
    with sink(tmp_path, "other") as into:
        assert not any(map(into.has, VALUES))
        assert not (tmp_path / FILES[1]).exists()
        put(into, *VALUES)


def test_a_shard_whose_place_is_gone_is_an_error_that_names_it(tmp_path):
    with sink(tmp_path) as into:
        for file in into.workplace.iterdir():
            file.unlink()
        with pytest.raises(OutputError, match=rf"{FILES[1]}: cannot be written: No such file"):
            put(into, "x")


def test_one_file_has_no_index(tmp_path):
    with DirectorySink(tmp_path, TENSORS[:2], 40, "key") as into:
        put(into, "z", "y")
    assert sorted(load_file(tmp_path / "model.safetensors")) == ["y", "z"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["merge.journal", "model.safetensors"]


def test_the_null_sink_takes_everything():
    put(NullSink(), *VALUES)
