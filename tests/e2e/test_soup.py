"""``mergery soup``: the members it names, and nothing else, are in the average that it writes."""

from __future__ import annotations

import json

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM

from mergery.evaluate import evaluate


@pytest.fixture
def items(tmp_path):
    path = tmp_path / "held_out.jsonl"
    words = ("cat", "dog", "bird", "one", "two", "three")
    lines = [
        json.dumps({"prompt": f"the {first} sees the {second}", "answer": " cat"}) + "\n"
        for first in words
        for second in words
        if first != second
    ]
    path.write_text("".join(lines))
    return path


def test_the_average_of_those_that_help(make_model, tokenizer, items, run, tmp_path):
    paths = {f"m{seed}": make_model(f"m{seed}", seed, near=0) for seed in range(4)}
    recipe = tmp_path / "soup.yml"
    models = [{"model": str(path)} for path in paths.values()]
    recipe.write_text(yaml.safe_dump({"merge_method": "linear", "models": models}))
    code, printed, _ = run("soup", recipe, items, tmp_path / "out", "--evaluator", "likelihood")
    assert code == 0

    written = yaml.safe_load((tmp_path / "out" / "mergery.yml").read_text())
    members = [entry["model"] for entry in written["models"]]
    assert 0 < len(members) < len(paths)
    assert printed.splitlines()[-1] == f"wrote the average of {', '.join(members)} to {tmp_path / 'out'}"
    states = [AutoModelForCausalLM.from_pretrained(path).state_dict() for path in members]
    soup = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    for name, tensor in soup.state_dict().items():
        mean = sum(state[name].double() for state in states) / len(states)
        torch.testing.assert_close(tensor.double(), mean, rtol=1e-6, atol=1e-7)

    def value(model) -> float:
        return evaluate(model.eval(), items, evaluator="likelihood", tokenizer=tokenizer).value

    alone = [value(AutoModelForCausalLM.from_pretrained(path)) for path in paths.values()]
    assert value(soup) >= max(alone)
    first = float(printed.splitlines()[0].split()[0])
    assert first == pytest.approx(alone[0], abs=1e-4)


def test_what_is_no_average_is_refused(make_model, items, run, tmp_path):
    base, one = make_model("base"), make_model("one", 1)
    recipe = tmp_path / "ties.yml"
    data = {"merge_method": "ties", "base_model": str(base), "models": [{"model": str(one)}]}
    recipe.write_text(yaml.safe_dump(data))
    code, _, problems = run("soup", recipe, items, tmp_path / "out")
    assert code == 2
    assert "a greedy soup is an average, got ties" in problems
    assert not (tmp_path / "out").exists()


def test_a_place_that_is_taken_is_refused_before_anything_is_scored(make_model, items, run, tmp_path):
    recipe = tmp_path / "soup.yml"
    models = [{"model": str(make_model(name, seed))} for seed, name in enumerate(("one", "two"))]
    recipe.write_text(yaml.safe_dump({"merge_method": "linear", "models": models}))
    code, printed, problems = run("soup", recipe, items, tmp_path / "one")
    assert (code, printed) == (2, "")
    assert "it already holds something" in problems
