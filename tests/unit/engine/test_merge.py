"""Merges on disk and in memory: right, whole or not at all, the same bytes every time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import xxhash
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from mergery import LiveMerge, Recipe, merge
from mergery.engine.output import check_free, staged_directory
from mergery.errors import CheckpointError, OutputError, RecipeError


@pytest.fixture
def trio(make_model):
    return make_model("base"), make_model("one", 1, near=0), make_model("two", 2, near=0, shard="5KB")


def arithmetic(trio, **rest) -> Recipe:
    base, *experts = map(str, trio)
    data = {"merge_method": "task_arithmetic", "base_model": base, "models": [{"model": m} for m in experts]}
    return Recipe.from_dict(data | rest)


def weights(directory) -> dict[str, torch.Tensor]:
    return AutoModelForCausalLM.from_pretrained(directory, dtype="float32").state_dict()


def test_a_merge_is_the_sum_done_by_hand_and_stock_transformers_runs_it(trio, tmp_path):
    merge(arithmetic(trio, parameters={"weight": 0.5}), tmp_path / "out")
    base, one, two = map(weights, trio)
    for name, tensor in weights(tmp_path / "out").items():
        by_hand = base[name].double() + 0.5 * (one[name].double() - base[name].double())
        by_hand += 0.5 * (two[name].double() - base[name].double())
        torch.testing.assert_close(tensor.double(), by_hand, rtol=1e-5, atol=1e-6)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    prompt = tokenizer("the cat sees", return_tensors="pt", return_token_type_ids=False)
    text = model.generate(**prompt, max_new_tokens=4, do_sample=False)
    assert text.shape == (1, 7)


METHODS = [
    ("linear", {}),
    ("task_arithmetic", {"lambda": 0.8}),
    ("ties", {"density": 0.3}),
    ("dare_linear", {"density": 0.5}),
    ("dare_ties", {"density": 0.5}),
    ("slerp", {"t": 0.3}),
]


@pytest.mark.parametrize(("method", "parameters"), METHODS)
def test_threads_shards_and_memory_give_the_same_bytes(trio, tmp_path, method, parameters):
    base, one, two = map(str, trio)
    experts = [one] if method == "slerp" else [one, two]
    data = {"merge_method": method, "models": [{"model": m} for m in experts], "parameters": parameters}
    data |= {} if method == "linear" else {"base_model": base}
    recipe = Recipe.from_dict(data | {"dtype": "bfloat16", "seed": 3})
    merge(recipe, tmp_path / "a", threads=1)
    merge(recipe, tmp_path / "b", threads=4)
    merge(recipe, tmp_path / "c", threads=2, shard_bytes=3000)
    for file in sorted((tmp_path / "a").iterdir()):
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()
    whole = load_file(tmp_path / "a" / "model.safetensors")
    index = json.loads((tmp_path / "c" / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 2
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in whole.values())
    live = LiveMerge(recipe).build(recipe).state_dict()
    reloaded = weights(tmp_path / "c")
    for name, tensor in whole.items():
        shard = load_file(tmp_path / "c" / index["weight_map"][name])
        assert torch.equal(tensor, shard[name])
        assert torch.equal(tensor.float(), live[name])
        assert torch.equal(tensor.float(), reloaded[name])


def test_hash_seeds_do_not_matter(trio, tmp_path):
    recipe = tmp_path / "r.yml"
    recipe.write_text(arithmetic(trio).to_yaml())
    for seed in ("1", "2"):
        subprocess.run(
            [sys.executable, "-m", "mergery", "merge", str(recipe), str(tmp_path / seed)],
            env=os.environ | {"PYTHONHASHSEED": seed},
            check=True,
        )
    for file in sorted((tmp_path / "1").iterdir()):
        assert file.read_bytes() == (tmp_path / "2" / file.name).read_bytes()


def test_a_live_model_is_filled_again_and_again(trio):
    live = LiveMerge(arithmetic(trio))
    first = {n: t.clone() for n, t in live.build(arithmetic(trio)).state_dict().items()}
    base, one, _ = map(weights, trio)
    alone = {
        "merge_method": "task_arithmetic",
        "base_model": str(trio[0]),
        "models": [{"model": str(trio[1])}],
    }
    for name, tensor in live.build(Recipe.from_dict(alone)).state_dict().items():
        torch.testing.assert_close(tensor, base[name] + (one[name] - base[name]))
    again = live.build(arithmetic(trio)).state_dict()
    assert all(torch.equal(again[name], tensor) for name, tensor in first.items())


def test_a_live_model_opens_models_as_they_come(trio, make_model):
    live = LiveMerge(arithmetic(trio))
    other = make_model("other", 5)
    built = live.build(Recipe.from_dict({"merge_method": "passthrough", "models": [{"model": str(other)}]}))
    assert all(torch.equal(built.state_dict()[name], tensor) for name, tensor in weights(other).items())


def tensors_digest(*files: Path) -> str:
    """The record's digest, from the files alone."""
    tensors = {name: tensor for file in files for name, tensor in load_file(file).items()}
    lines = (
        f"{name} {xxhash.xxh3_128(tensors[name].view(torch.uint8).numpy().tobytes()).hexdigest()}\n"
        for name in sorted(tensors)
    )
    return xxhash.xxh3_128("".join(lines).encode()).hexdigest()


def test_the_directory_says_what_it_is(trio, tmp_path):
    recipe = arithmetic(trio)
    merged = merge(recipe, tmp_path / "out")
    lock = json.loads((tmp_path / "out" / "mergery.lock.json").read_text())
    assert lock["outputs"] == {
        name: {"xxh3_128": tensors_digest(merged.directory / name)} for name in merged.files
    }
    for model in trio:
        files = sorted(model.glob("*.safetensors"))
        count = sum(len(load_file(file)) for file in files)
        assert lock["inputs"][str(model)] == {"tensors": count, "xxh3_128": tensors_digest(*files)}
    assert Recipe.from_dict(lock["recipe"]) == Recipe.load(tmp_path / "out" / "mergery.yml") == recipe
    card = (tmp_path / "out" / "README.md").read_text()
    assert "task_arithmetic" in card
    assert recipe.to_yaml().strip() in card


def test_inputs_are_recorded_whatever_order_they_are_read_in(make_model, tmp_path):
    """Thresholds of large tensors are looked for in a sample first."""
    models = [make_model(name, seed, near=0, intermediate_size=40_000) for seed, name in enumerate("abc")]
    merge(arithmetic(models, merge_method="ties", parameters={"density": 0.3}), tmp_path / "out")
    inputs = json.loads((tmp_path / "out" / "mergery.lock.json").read_text())["inputs"]
    for model in models:
        assert inputs[str(model)]["xxh3_128"] == tensors_digest(model / "model.safetensors")


def test_an_output_that_holds_something_is_left_alone(trio, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    with pytest.raises(OutputError, match="already holds something"):
        merge(arithmetic(trio), out)
    assert [file.name for file in out.iterdir()] == ["mine.txt"]
    with pytest.raises(OutputError, match="not a directory"):
        merge(arithmetic(trio), out / "mine.txt")


def test_a_disk_that_is_too_full(tmp_path):
    with pytest.raises(OutputError, match=r"1000000\.0 GB are needed and [\d.]+ GB are free"):
        check_free(tmp_path / "out", 10**15)


def test_no_shard_is_larger_than_asked_but_for_a_tensor_that_is(trio, tmp_path):
    merged = merge(arithmetic(trio), tmp_path / "out", shard_bytes=4000)
    for name in merged.files:
        tensors = load_file(tmp_path / "out" / name)
        assert sum(tensor.nbytes for tensor in tensors.values()) <= 4000 or len(tensors) == 1


def test_an_empty_output_is_filled(trio, tmp_path):
    (tmp_path / "out").mkdir()
    assert merge(arithmetic(trio), tmp_path / "out").files == ("model.safetensors",)


def left(tmp_path) -> list[str]:
    return sorted(path.name for path in tmp_path.iterdir() if path.name not in ("base", "one", "two"))


@pytest.mark.parametrize("threads", [1, 3])
def test_a_nan_in_an_input_names_file_and_tensor_and_leaves_nothing(trio, tmp_path, threads):
    file = trio[1] / "model.safetensors"
    tensors = load_file(file)
    tensors["model.norm.weight"][3] = float("nan")
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"model\.safetensors: model\.norm\.weight holds NaN"):
        merge(arithmetic(trio), tmp_path / "out", threads=threads)
    assert left(tmp_path) == []


def test_a_merge_that_overflows_is_an_error(trio, tmp_path):
    with pytest.raises(RecipeError, match="NaN or infinite values in F16"):
        merge(arithmetic(trio, parameters={"weight": 1e7}, out_dtype="float16"), tmp_path / "out")
    assert left(tmp_path) == []


def test_weights_that_cancel_are_an_error_with_the_tensors_name(trio, tmp_path):
    base, one, _ = map(str, trio)
    models = [{"model": base, "parameters": {"weight": 1}}, {"model": one, "parameters": {"weight": -1}}]
    with pytest.raises(
        RecipeError, match=r"^model\.[a-z0-9_.]+\.weight: linear: the weights 1, -1 sum to zero"
    ):
        merge(Recipe.from_dict({"merge_method": "linear", "models": models}), tmp_path / "out")


def test_buffers_of_whole_numbers_are_copied_or_refused(trio, tmp_path):
    for directory, value in zip(trio[:2], (4, 4), strict=True):
        file = directory / "model.safetensors"
        save_file(load_file(file) | {"model.count": torch.tensor([value])}, file, {"format": "pt"})
    base, one, _ = map(str, trio)
    recipe = Recipe.from_dict({"merge_method": "ties", "base_model": base, "models": [{"model": one}]})
    merge(recipe, tmp_path / "out")
    assert load_file(tmp_path / "out" / "model.safetensors")["model.count"].tolist() == [4]
    file = trio[1] / "model.safetensors"
    save_file(load_file(file) | {"model.count": torch.tensor([5])}, file, {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"model\.count: it is not of floating point and differs"):
        merge(recipe, tmp_path / "again")


def test_a_live_model_that_lacks_a_tensor_says_so(trio):
    file = trio[0] / "model.safetensors"
    save_file(load_file(file) | {"model.count": torch.tensor([1])}, file, {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"model\.count: the live model"):
        LiveMerge(Recipe.from_dict({"merge_method": "passthrough", "models": [{"model": str(trio[0])}]}))


def test_two_merges_to_one_place_do_not_mix(tmp_path):
    with staged_directory(tmp_path / "out") as first:
        (first / "a").write_text("a")
        with pytest.raises(OutputError, match="another merge"), staged_directory(tmp_path / "out"):
            pass
    assert (tmp_path / "out" / "a").read_text() == "a"


def test_what_appears_under_the_name_meanwhile_is_left_alone(tmp_path):
    out = tmp_path / "out"

    def somebody_else() -> None:
        out.mkdir()
        (out / "mine").write_text("mine")

    with pytest.raises(OutputError, match="meanwhile"), staged_directory(out):
        somebody_else()
    assert [file.name for file in tmp_path.iterdir()] == ["out"]
    assert (out / "mine").read_text() == "mine"


def test_a_killed_merge_leaves_no_output_and_the_next_one_is_whole(trio, tmp_path):
    script = (
        "import os, sys, time; from pathlib import Path; from mergery.engine.output import staged_directory\n"
        f"with staged_directory(Path({str(tmp_path / 'out')!r})) as d:\n"
        "    (d / 'half').write_text('half'); print('ready', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    time.sleep(0.05)
    assert not (tmp_path / "out").exists()
    merge(arithmetic(trio), tmp_path / "out")
    assert not (tmp_path / "out" / "half").exists()
    assert left(tmp_path) == ["out"]


@pytest.mark.parametrize("method", ["ties", "dare_ties"])
def test_the_memory_that_is_planned_bounds_what_is_used(make_model, tmp_path, method):
    sizes = {"vocab_size": 24, "hidden_size": 1024, "intermediate_size": 2048, "num_hidden_layers": 1}
    base, one, two = (make_model(name, seed, **sizes) for seed, name in enumerate(("base", "one", "two")))
    models = [{"model": str(one)}, {"model": str(two)}]
    recipe = {
        "merge_method": method,
        "base_model": str(base),
        "models": models,
        "parameters": {"density": 0.5},
    }
    (tmp_path / "r.yml").write_text(Recipe.from_dict(recipe).to_yaml())
    script = f"""
import threading, time, torch
from mergery import Recipe, make_plan, merge
import mergery.engine.execute, mergery.engine.sink, mergery.engine.source
def anonymous():
    lines = open('/proc/self/status').read().split('RssAnon:')[1]
    return int(lines.split()[0]) * 1024
torch.randn(1000).kthvalue(5)
recipe = Recipe.load({str(tmp_path / "r.yml")!r})
merge(recipe, {str(tmp_path / "first")!r}, threads=1)  # loads compiled code
before, peak, running = anonymous(), 0, True
def watch():
    global peak
    while running:
        peak = max(peak, anonymous()); time.sleep(0.0005)
watcher = threading.Thread(target=watch); watcher.start()
merge(recipe, {str(tmp_path / "out")!r}, threads=1)
running = False; watcher.join()
print(peak - before, make_plan(recipe).peak_memory(1))
"""
    # a fixed threshold: otherwise the C library keeps freed memory, and more or less of it by chance
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment
    )
    used, planned = map(int, done.stdout.split())
    assert used <= planned <= 40e6  # of a model of 16 million weights
