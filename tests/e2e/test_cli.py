"""The command line as a user sees it."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml
from transformers import AutoModelForCausalLM

PROJECT = Path(__file__).parents[2] / "pyproject.toml"


def run(*arguments: object) -> str:
    command = [sys.executable, "-m", "mergery", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_help_answers_without_torch():
    probe = """
import sys
sys.argv = ["mergery", *sys.argv[1:], "--help"]
from mergery.cli import main
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
heavy = [name for name in ("torch", "transformers", "optuna", "matplotlib") if name in sys.modules]
assert not heavy, heavy
"""
    for verb in ("", "merge", "check", "plan", "soup", "evolve", "demo", "methods", "inspect", "zoo"):
        done = subprocess.run(
            [sys.executable, "-c", probe, *verb.split()], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "Usage" in done.stdout


def test_methods_lists_all_and_shows_one():
    listing = run("methods")
    for name in ("linear", "task_arithmetic", "ties", "dare_linear", "dare_ties", "slerp", "passthrough"):
        assert name in listing
    shown = run("methods", "show", "ties")
    for text in ("arXiv:2306.01708", "density", "0 to 1", "Departs from"):
        assert text in shown


def test_from_a_recipe_to_a_model_that_generates(make_model, tmp_path):
    base, one = make_model("base"), make_model("one", 1)
    recipe = tmp_path / "recipe.yml"
    recipe.write_text(
        yaml.safe_dump(
            {
                "merge_method": "slerp",
                "base_model": str(base),
                "models": [{"model": str(one)}],
                "parameters": {"t": 0.5},
            }
        )
    )
    size = (base / "model.safetensors").stat().st_size
    planned = json.loads(run("plan", recipe, "--json", "--threads", 1))
    assert 0 < planned["bytes_written"] < size
    assert planned["bytes_read"] == 2 * planned["bytes_written"]
    assert planned["peak_memory"] > 0
    assert "reads" in run("plan", recipe)
    assert "wrote" in run("merge", recipe, tmp_path / "out")
    assert run("merge", recipe, tmp_path / "quiet", "--quiet", "--shard-size", 0.001) == ""
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert model.generate(max_new_tokens=3, do_sample=False).shape[1] >= 3
    shown = run("inspect", tmp_path / "out", "--tensors")
    assert "3 layers" in shown
    assert "model.layers.2.mlp.up_proj.weight" in shown


def test_the_package_runs_as_a_module_and_names_what_is_public():
    import mergery

    for name in mergery.__all__:
        assert getattr(mergery, name) is not None
    assert "merge" in dir(mergery)
    assert "Usage" in run("--help")
    project = tomllib.loads(PROJECT.read_text())["project"]
    assert run("--version") == f"mergery {project['version']}\n"
