"""Threads or processes: the same bytes, the same errors, and nothing left running."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mergery import Recipe, merge
from mergery.engine.executors import Work, choose_executor
from mergery.engine.executors.processes import run_in_processes, worker_devices
from mergery.engine.plan import make_plan
from mergery.engine.record import merge_key
from mergery.engine.sink import DirectorySink
from mergery.errors import CheckpointError, DeviceError, WorkerError

SMALL = 2000


@pytest.fixture
def trio(make_model) -> list[str]:
    return [str(make_model("base")), *(str(make_model(f"expert-{i}", i, near=0)) for i in (1, 2))]


@pytest.fixture(autouse=True)
def nothing_left_running():
    yield
    assert not multiprocessing.active_children()


def contents(directory: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in directory.iterdir()}


def recipe(base: str, *models: object, method: str = "task_arithmetic", **rest: object) -> Recipe:
    sources = [{"model": model} for model in models]
    return Recipe.from_dict({"merge_method": method, "base_model": base, "models": sources} | rest)


def adapter(directory: Path) -> Path:
    """Of rank 2, for the middle layer's ``down_proj``."""
    directory.mkdir()
    prefix, made = "base_model.model.model.layers.1.mlp.down_proj", torch.Generator().manual_seed(0)
    parts = {"lora_A": torch.randn(2, 24, generator=made), "lora_B": torch.randn(16, 2, generator=made)}
    save_file(
        {f"{prefix}.{part}.weight": tensor for part, tensor in parts.items()},
        directory / "adapter_model.safetensors",
    )
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 6, "target_modules": ["down_proj"]}
    (directory / "adapter_config.json").write_text(json.dumps(settings | {"layers_to_transform": [1]}))
    return directory


def ranks_in_the_whole_model(base: str, one: str, two: str, tmp_path: Path) -> Recipe:
    parameters = {"density": 0.3, "scope": "model"}
    return recipe(base, one, two, method="ties", parameters=parameters)


def random_masks_an_adapter_a_nested_recipe(base: str, one: str, two: str, tmp_path: Path) -> Recipe:
    thinned = {"parameters": {"density": 0.5}, "seed": 5}
    inner = recipe(base, one, two, method="dare_linear", **thinned).to_dict()
    adapted = f"{one}+{adapter(tmp_path / 'adapter')}"
    return recipe(base, adapted, inner, method="dare_ties", dtype="bfloat16", **thinned)


@pytest.mark.parametrize("made", [ranks_in_the_whole_model, random_masks_an_adapter_a_nested_recipe])
def test_processes_write_what_threads_write(trio, tmp_path, made):
    asked = made(*trio, tmp_path)
    told: list[tuple[int, int]] = []
    merge(asked, tmp_path / "threads", threads=2, shard_bytes=SMALL, executor="threads")
    merged = merge(
        asked,
        tmp_path / "processes",
        threads=2,
        shard_bytes=SMALL,
        executor="processes",
        progress=lambda *at: told.append(at),
    )
    assert len(merged.files) > 5
    assert contents(tmp_path / "processes") == contents(tmp_path / "threads")
    assert told == sorted(told)
    assert told[-1] == (merged.bytes, merged.bytes)


def test_an_error_of_a_worker_is_the_error_of_the_merge(trio, tmp_path):
    file = Path(trio[2], "model.safetensors")
    tensors = load_file(file)
    tensors["model.layers.1.mlp.up_proj.weight"][3, 5] = float("nan")
    save_file(tensors, file, {"format": "pt"})
    caught = []
    for executor in ("threads", "processes"):
        with pytest.raises(CheckpointError, match="up_proj") as error:
            merge(recipe(*trio), tmp_path / "out", threads=1, executor=executor)
        caught.append(error.value)
        assert not any("out" in path.name for path in tmp_path.iterdir())
    assert type(caught[0]) is type(caught[1])
    assert (str(caught[0]), vars(caught[0])) == (str(caught[1]), vars(caught[1]))


def test_after_the_death_of_a_worker_the_same_command_goes_on(trio, tmp_path):
    def kill(done: int, total: int) -> None:
        for worker in multiprocessing.active_children():
            os.kill(worker.pid, signal.SIGKILL)

    def run(**how: object) -> None:
        merge(
            recipe(*trio),
            tmp_path / "out",
            threads=1,
            shard_bytes=SMALL,
            **{"executor": "processes"} | how,
        )

    with pytest.raises(WorkerError, match="worker process has ended"):
        run(progress=kill)
    assert not (tmp_path / "out").exists()
    kept = {file.name: file.stat().st_ino for file in (tmp_path / ".out.partial").glob("*.safetensors")}
    assert kept
    told: list[int] = []
    run(progress=lambda done, total: told.append(done))
    assert all((tmp_path / "out" / name).stat().st_ino == inode for name, inode in kept.items())
    merge(recipe(*trio), tmp_path / "whole", threads=1, shard_bytes=SMALL)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_worker_refuses_inputs_that_are_not_the_ones_of_the_plan(trio, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    plan = make_plan(recipe(*trio))
    key = merge_key(plan, SMALL, "cpu")
    os.utime(Path(trio[1], "model.safetensors"), (1, 1))
    with (
        DirectorySink(out, [job.output for job in plan.jobs], SMALL, key) as sink,
        pytest.raises(CheckpointError, match="sees other models"),
    ):
        run_in_processes(Work(plan, plan.jobs, sink, SMALL, key, threads=1))


def test_an_input_that_changes_while_workers_read_it_ends_the_merge(trio, tmp_path):
    changed = Path(trio[1], "model.safetensors")
    with pytest.raises(CheckpointError, match=r"expert-1.* has changed while it was being merged"):
        merge(
            recipe(*trio),
            tmp_path / "out",
            threads=1,
            executor="processes",
            progress=lambda *_: os.utime(changed, (1, 1)),
        )
    assert not (tmp_path / "out").exists()


CALLER = """
import multiprocessing, sys, time
from mergery import merge

def hang(done, total):
    print(*(worker.pid for worker in multiprocessing.active_children()), flush=True)
    time.sleep(60)

merge(sys.argv[1], sys.argv[2], threads=1, executor="processes", progress=hang)
"""


def test_workers_end_with_the_process_that_began_them(trio, tmp_path):
    file = tmp_path / "recipe.yml"
    file.write_text(recipe(*trio).to_yaml())
    command = [sys.executable, "-c", CALLER, file, tmp_path / "out"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as caller:
        workers = [Path("/proc", pid) for pid in caller.stdout.readline().split()]
        assert workers
        assert all(worker.exists() for worker in workers)
        caller.kill()
    until = time.monotonic() + 20
    while any(worker.exists() for worker in workers):
        assert time.monotonic() < until
        time.sleep(0.05)


def test_an_executor_or_a_device_that_is_not_there_is_said_before_any_work():
    with pytest.raises(DeviceError, match="did you mean processes") as error:
        choose_executor("proceses", "cpu")
    assert error.value.message == "executor proceses: there is none"
    for name in ("auto", "threads", "processes"):
        with pytest.raises(DeviceError, match="cannot be used"):
            choose_executor(name, "cuda:99")
    assert worker_devices("cpu", 3) == ["cpu", "cpu", "cpu"]
