"""``mergery study`` on the directory of a real search for two objectives."""

from __future__ import annotations

import json
import random

import pytest
import yaml

from mergery.evolve import SearchSpec, evolve

WORDS = "the cat dog bird sees has takes one two three four five".split()  # noqa: SIM905


@pytest.fixture
def out(make_model, tmp_path):
    dice, tasks = random.Random(5), {}
    for task in ("left", "right"):
        tasks[task] = {"evaluator": "likelihood", "confirm": 0.5}
        for name in ("validation", "test"):
            prompts = dict.fromkeys(" ".join(dice.choice(WORDS) for _ in range(6)) for _ in range(16))
            items = [
                {"prompt": f"{prompt} {task[0]}", "answer": " " + dice.choice(WORDS)} for prompt in prompts
            ]
            tasks[task][name] = str(tmp_path / f"{task}.{name}.jsonl")
            (tmp_path / f"{task}.{name}.jsonl").write_text("\n".join(json.dumps(item) for item in items))
    models = [
        {
            "model": str(make_model(name, seed, near=0)),
            "parameters": {"weight": {"search": True, "by": "role"}},
        }
        for name, seed in (("one", 1), ("two", 2))
    ]
    recipe = {"merge_method": "task_arithmetic", "base_model": str(make_model("base")), "models": models}
    search = {"algorithm": "nsga2", "trials": 6, "objectives": True}
    evolve(SearchSpec.from_dict({"recipe": recipe, "search": search, "tasks": tasks}), tmp_path / "out")
    return tmp_path / "out"


def test_every_command(run, out, tmp_path):
    code, text, _ = run("study", "show", out)
    lines = text.splitlines()
    assert code == 0
    assert lines[0].split() == ["trial", "score", "left", "right", "state", "items", "origin", "genome"]
    scores = [float(line.split()[1]) for line in lines[1:]]
    assert len(scores) == 6
    assert scores == sorted(scores, reverse=True)
    assert all(" +" in line for line in lines[1:])
    _, text, _ = run("study", "show", out, "--by-number", "--json")
    data = json.loads(text)
    assert [row["trial"] for row in data] == list(range(6))
    assert all(len(row["parameters"]) > 4 for row in data)

    _, text, _ = run("study", "best", out)
    assert yaml.safe_load(text) == yaml.safe_load((out / "best.yml").read_text())

    front = json.loads((out / "front.json").read_text())
    _, text, _ = run("study", "pareto", out)
    lines = text.splitlines()
    assert len(lines) == len(front["members"]) + 2
    (picked,) = [line for line in lines if line.startswith("*") and "front/" in line]
    best = next(member for member in front["members"] if member["picked"])
    assert f"{best['scores']['left']['test']['score']:.4f}" in picked
    assert json.loads(run("study", "pareto", out, "--json")[1]) == front

    code, text, _ = run("study", "export", out, tmp_path / "trials.csv")
    assert (code, text) == (0, f"6 trials in {tmp_path / 'trials.csv'}\n")
    assert len((tmp_path / "trials.csv").read_text().splitlines()) == 7


def test_what_is_no_search_is_told(run, tmp_path):
    for command in ("show", "best", "pareto"):
        code, text, errors = run("study", command, tmp_path)
        assert (code, text) == (2, "")
        assert (
            errors == f"{tmp_path}: holds no search\nfix: give a directory that mergery evolve has written\n"
        )
    assert run("study", "export", tmp_path, tmp_path / "x.csv")[0] == 2
    assert not (tmp_path / "x.csv").exists()
