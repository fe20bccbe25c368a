from __future__ import annotations

import subprocess
import sys

import pytest
from transformers import AutoModelForCausalLM

from mergery.errors import CheckpointError, DataError
from mergery.evaluate import Items, evaluate, evaluator_names, get_evaluator
from mergery.evaluate.items import Item

ONE = Items("one", (Item("the cat", " sees", line=1),))


def test_both_evaluators_are_known():
    assert evaluator_names()[:2] == ("exact_match", "likelihood")


def test_a_misspelt_evaluator_is_met_with_the_near_one():
    with pytest.raises(DataError, match=r"task.evaluator: unknown evaluator 'exact_mach'\nfix: did you mean"):
        get_evaluator("exact_mach", where="task.evaluator")


def test_what_is_no_model_directory(tmp_path):
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        evaluate(tmp_path, ONE)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(CheckpointError, match=r"neither model\.safetensors"):
        evaluate(tmp_path, ONE)


def test_items_may_be_a_file(make_model, tmp_path):
    path = tmp_path / "items.jsonl"
    path.write_text('{"prompt": "the cat", "answer": " sees"}\n')
    directory = make_model("m")
    assert evaluate(directory, path, evaluator="likelihood").value == pytest.approx(
        evaluate(str(directory), ONE, evaluator="likelihood").value
    )


def test_items_too_long_for_the_models_context(make_model):
    long = Items("long", (Item(" ".join(["a"] * 64), " b", line=3),))
    with pytest.raises(DataError, match="long:3: 65 tokens, and the model takes 64"):
        evaluate(make_model("m"), long)


def test_a_model_in_memory_needs_a_tokenizer(make_model):
    model = AutoModelForCausalLM.from_pretrained(make_model("m"))
    with pytest.raises(ValueError, match="tokenizer"):
        evaluate(model, ONE)


def test_importing_imports_no_torch():
    code = (
        "import sys, mergery.evaluate, mergery.evolve, mergery.evolve.algorithms as a; "
        "mergery.evaluate.evaluator_names(), a.algorithm_names(); "
        "sys.exit(any(m in sys.modules for m in ('torch', 'transformers', 'optuna', 'matplotlib')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
