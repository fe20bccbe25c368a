"""A Ray cluster of this machine: the same bytes as threads, and the same errors. `make cluster` runs it."""

from __future__ import annotations

from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from mergery import Recipe, merge
from mergery.errors import CheckpointError, DeviceError

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.filterwarnings("default")  # ray's own


@pytest.fixture(scope="module", autouse=True)
def cluster():
    ray.init(num_cpus=2, include_dashboard=False, logging_level="warning")
    yield
    ray.shutdown()


@pytest.fixture
def trio(make_model) -> list[str]:
    return [str(make_model("base")), *(str(make_model(f"expert-{i}", i, near=0)) for i in (1, 2))]


def recipe(trio: list[str], method: str, **parameters: object) -> Recipe:
    sources = [{"model": model} for model in trio[1:]]
    data = {"merge_method": method, "base_model": trio[0], "models": sources, "parameters": parameters}
    return Recipe.from_dict(data | {"seed": 3})


def contents(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir()}


@pytest.mark.parametrize(
    ("method", "parameters"), [("ties", {"scope": "model"}), ("dare_ties", {"density": 0.5})]
)
def test_a_cluster_writes_what_threads_write(trio, tmp_path, method, parameters):
    asked = recipe(trio, method, **parameters)
    merge(asked, tmp_path / "threads", shard_bytes=2000, executor="threads")
    merge(asked, tmp_path / "ray", shard_bytes=2000, executor="ray")
    assert contents(tmp_path / "ray") == contents(tmp_path / "threads")


def test_relative_paths_are_those_of_the_one_who_asks(trio, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = recipe([Path(model).name for model in trio], "task_arithmetic")
    merge(asked, "threads", executor="threads")
    merge(asked, "ray", executor="ray")
    assert contents(tmp_path / "ray") == contents(tmp_path / "threads")


def test_an_error_of_a_worker_is_the_error_of_the_merge(trio, tmp_path):
    file = Path(trio[2], "model.safetensors")
    tensors = load_file(file)
    tensors["model.layers.1.mlp.up_proj.weight"][3, 5] = float("nan")
    save_file(tensors, file, {"format": "pt"})
    caught = []
    for executor in ("threads", "ray"):
        with pytest.raises(CheckpointError, match="up_proj") as error:
            merge(recipe(trio, "task_arithmetic"), tmp_path / "out", executor=executor)
        caught.append(error.value)
        assert not any("out" in path.name for path in tmp_path.iterdir())
    assert (type(caught[0]), str(caught[0])) == (type(caught[1]), str(caught[1]))


def test_what_no_machine_of_the_cluster_has_is_an_error(trio, tmp_path):
    asked = recipe(trio, "task_arithmetic")
    with pytest.raises(DeviceError, match="no machine with 1000 CPU"):
        merge(asked, tmp_path / "out", executor="ray", threads=1000)
    with pytest.raises(DeviceError, match="Ray chooses"):
        merge(asked, tmp_path / "out", executor="ray", device="cuda:1")
