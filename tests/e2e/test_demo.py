"""The demo with a short search: the whole path from the command line, twice."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from mergery.evaluate import evaluate

KINDS = ["base", "expert", "expert", "control", *["plain"] * 5, "tuned", "evolved"]


def demo(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mergery", "demo", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    return tmp_path_factory.mktemp("demo") / "demo"


@pytest.fixture(scope="module")
def first(out):
    done = demo("--out", out, "--trials", 28, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_table_is_json_and_nothing_else_is_printed(first):
    rows = first["test"]
    assert [row["kind"] for row in rows.values()] == KINDS
    for row in rows.values():
        assert 0 <= row["low"] <= row["score"] <= row["high"] <= 1
        assert row["items"] >= 1000


def test_the_scores_are_those_of_the_models_on_disk(first, out):
    """Counted by generating one word at a time with stock transformers, for the first items."""
    file = out / "zoo/items/maths-j.test.jsonl"
    items = [json.loads(line) for line in file.read_text().splitlines()]
    for name, directory in (("japanese", out / "zoo/models/japanese"), ("evolved", out / "evolved/model")):
        outcomes = evaluate(directory, file).outcomes
        assert first["test"][name]["score"] == pytest.approx(outcomes.mean())
        model = AutoModelForCausalLM.from_pretrained(directory, dtype="float32")
        tokenizer = AutoTokenizer.from_pretrained(directory)
        for item, outcome in zip(items[:200], outcomes, strict=False):
            ids = tokenizer(item["prompt"], return_tensors="pt")["input_ids"]
            new = model.generate(ids, max_new_tokens=1, do_sample=False)[0, ids.shape[1] :]
            assert (tokenizer.decode(new).strip() == item["answer"].strip()) == bool(outcome)


def test_run_again_it_picks_up_and_prints_the_recipe_and_the_paths(first, out):
    before = (out / "evolved/model/model.safetensors").stat().st_mtime_ns
    done = demo("--out", out, "--trials", 28)
    assert done.returncode == 0, done.stderr
    assert (out / "evolved/model/model.safetensors").stat().st_mtime_ns == before
    assert "merge_method: task_arithmetic" in done.stdout
    for path in (
        "evolved/model",
        "evolved/best.yml",
        "search.yml",
        "evolved/search.png",
        "table.json",
        "zoo",
    ):
        assert (out / path).exists()
        assert str(out / path) in done.stdout
    assert json.loads((out / "table.json").read_text()) == first


def test_a_zoo_of_ones_own(first, out, tmp_path):
    done = demo("--zoo", out / "zoo", "--out", tmp_path / "own", "--trials", 28, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == first


def test_a_directory_that_holds_something_else(tmp_path):
    (tmp_path / "mine").write_text("mine")
    done = demo("--out", tmp_path)
    assert done.returncode == 2
    assert "already holds something" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
    done = demo("--zoo", tmp_path, "--out", tmp_path / "out")
    assert done.returncode == 2
    assert "fix:" in done.stderr


def test_zoo_verbs_refuse_a_directory_that_holds_something(tmp_path):
    (tmp_path / "mine").write_text("mine")
    for verb in ("build", "ready"):
        done = subprocess.run(
            [sys.executable, "-m", "mergery", "zoo", verb, str(tmp_path)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 2
        assert "not an empty directory" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
