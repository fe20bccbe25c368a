"""``mergery evolve`` killed with SIGKILL, again and again, against the same search left alone."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

WORDS = "the cat dog bird sees has takes one two three four five".split()  # noqa: SIM905
TRIALS = 20


@pytest.fixture
def search(make_model, tmp_path) -> Path:
    dice = random.Random(5)
    for name, count in (("validation", 200), ("test", 40)):
        prompts = dict.fromkeys(" ".join(dice.choice(WORDS) for _ in range(12)) for _ in range(count))
        items = [{"prompt": prompt, "answer": " " + dice.choice(WORDS)} for prompt in prompts]
        text = "".join(json.dumps(item) + "\n" for item in items)
        (tmp_path / f"{name}.jsonl").write_text(text)
    knob = {"search": [-0.5, 2.0], "by": "block"}
    models = [
        {"model": str(make_model(name, seed, near=0)), "parameters": {"weight": knob}}
        for name, seed in (("one", 1), ("two", 2))
    ]
    data = {
        "recipe": {
            "merge_method": "task_arithmetic",
            "base_model": str(make_model("base")),
            "models": models,
        },
        "search": {
            "algorithm": "cma-es",
            "trials": TRIALS,
            "population": 6,
            "sigma": 0.2,
            "seed": 4,
            "racing": True,
        },
        "task": {
            "evaluator": "likelihood",
            "validation": str(tmp_path / "validation.jsonl"),
            "test": str(tmp_path / "test.jsonl"),
        },
    }
    path = tmp_path / "search.yml"
    path.write_text(yaml.safe_dump(data))
    return path


def start(search: Path, out: Path) -> subprocess.Popen[str]:
    code = "from mergery.cli import main; main()"
    command = [sys.executable, "-c", code, "evolve", str(search), str(out)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def lines_in(out: Path) -> list[dict[str, object]]:
    """The journal's whole lines."""
    journal = out / "study" / "journal.log"
    whole = journal.read_bytes().split(b"\n")[:-1] if journal.exists() else []
    return [json.loads(line) for line in whole]


def trials_in(out: Path) -> list[tuple[object, ...]]:
    """What was tried and what came of it, trial by trial; those that have ended."""
    lines = lines_in(out)
    asked = [(line["params"], line["user_attrs"]["recipe"]) for line in lines if line["op_code"] == 4]
    told = {line["trial_id"]: line["user_attr"]["told"] for line in lines if line["op_code"] == 8}
    ended = [line["trial_id"] for line in lines if line["op_code"] == 6]
    return [(*asked[trial], *(told[trial][key] for key in ("score", "items", "told"))) for trial in ended]


def wait_for(condition, process: subprocess.Popen[str]) -> None:
    while process.poll() is None and not condition():
        time.sleep(0.001)


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
