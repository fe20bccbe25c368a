"""The same recipes through mergekit 0.1.4 and through Mergery, in float32: how far apart are the weights?"""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

import torch
import yaml
from safetensors.torch import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from bench.page import table, write
from mergery import Recipe, merge

HERE = Path(__file__).resolve().parent
PEER = HERE / ".venv-mergekit" / "bin" / "python"
EXPERTS = ("one", "two", "three")


def models(folder: Path) -> None:
    """A random Llama and three experts near it."""
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    for seed, name in enumerate(("base", *EXPERTS)):
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += (0.02 if seed else 0.0) * torch.randn_like(parameter)
        model.save_pretrained(folder / name)


def listed(*parameters: dict[str, object]) -> list[dict[str, object]]:
    """The first experts, each with its parameters."""
    return [{"model": name, "parameters": own} for name, own in zip(EXPERTS, parameters, strict=False)]


def run_of_layers(model: str, first: int, end: int, **parameters: object) -> dict[str, object]:
    """A source of a slice."""
    return {"model": model, "layer_range": [first, end], "parameters": parameters}


BY_NAME = [{"filter": "self_attn", "value": [0, 1, 0.5]}, {"filter": "mlp", "value": 0.4}, {"value": 1.1}]
CURVES = [
    {"filter": "self_attn", "value": [0, 0.5, 0.3, 0.7, 1]},
    {"filter": "mlp", "value": [1, 0]},
    {"value": 0.5},
]
SCALES = [{"filter": "o_proj", "value": 0.5}, {"filter": "down_proj", "value": [0.1, 0.9]}, {"value": 1.0}]
SHARES = ({"weight": 0.6, "density": 0.5}, {"weight": [0.3, 0.9], "density": [0.2, 0.8]}, {"weight": 0.5})
BASE = {"base_model": "base"}

RECIPES: dict[str, dict[str, object]] = {
    "linear, gradient": {
        "merge_method": "linear",
        "models": listed({"weight": [0.2, 1.0]}, {"weight": 0.3}),
    },
    "linear, not normalised": {
        "merge_method": "linear",
        "models": listed({"weight": 0.7}, {"weight": 0.5}),
        "parameters": {"normalize": False},
    },
    "task_arithmetic, filters and gradients": {
        "merge_method": "task_arithmetic",
        **BASE,
        "models": listed({"weight": BY_NAME}, {"weight": -0.3}),
        "parameters": {"lambda": [0.5, 1.5]},
    },
    "task_arithmetic, normalised": {
        "merge_method": "task_arithmetic",
        **BASE,
        "models": listed({"weight": 0.6}, {"weight": 0.3}),
        "parameters": {"normalize": True},
    },
    "task_arithmetic, slices": {
        "merge_method": "task_arithmetic",
        **BASE,
        "slices": [
            {"sources": [run_of_layers("base", 0, 2), run_of_layers("one", 0, 2, weight=[0.1, 0.9])]},
            {"sources": [run_of_layers("base", 2, 3), run_of_layers("two", 2, 3, weight=[0.1, 0.9])]},
            {
                "sources": [run_of_layers("base", 3, 4), run_of_layers("one", 3, 4, weight=0.4)],
                "parameters": {"lambda": 2},
            },
        ],
    },
    "ties": {"merge_method": "ties", **BASE, "models": listed(*SHARES)},
    "ties, rescaled sum": {
        "merge_method": "ties",
        **BASE,
        "models": listed({}, {}, {}),
        "parameters": {"weight": 0.5, "density": 0.3, "normalize": False, "rescale": True, "lambda": 0.8},
    },
    "slerp, curves": {
        "merge_method": "slerp",
        **BASE,
        "models": listed({}),
        "parameters": {"t": CURVES},
    },
    "passthrough, stacked and scaled": {
        "merge_method": "passthrough",
        "slices": [
            {"sources": [run_of_layers("one", 0, 3)]},
            {"sources": [run_of_layers("two", 1, 4, scale=SCALES)]},
        ],
    },
}


def difference(folder: Path, number: int, data: dict[str, object]) -> float:
    """Largest difference of any weight, relative to the largest weight of its tensor."""
    recipe = folder / f"{number}.yml"
    recipe.write_text(yaml.safe_dump(data | {"dtype": "float32"}))
    theirs, ours = folder / f"{number}-theirs", folder / f"{number}-ours"
    command = [PEER, HERE / "run_mergekit.py", recipe.name, theirs.name]
    options = ["--no-copy-tokenizer", "--no-write-model-card"]
    subprocess.run([*map(str, command), *options], cwd=folder, check=True, capture_output=True)
    merge(Recipe.from_dict(absolute(yaml.safe_load(recipe.read_text()), folder)), ours)
    one, other = (load_file(directory / "model.safetensors") for directory in (theirs, ours))
    assert one.keys() == other.keys()
    return max(float((one[name] - other[name]).abs().max() / one[name].abs().max()) for name in one)


def absolute(data: object, folder: Path) -> object:
    """The recipe with the models' directories spelled out."""
    if isinstance(data, dict):
        return {
            key: str(folder / value) if key in ("model", "base_model") else absolute(value, folder)
            for key, value in data.items()
        }
    return [absolute(value, folder) for value in data] if isinstance(data, list) else data


def main() -> None:
    """Compare every recipe."""
    subprocess.run([HERE / "peers.sh"], check=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        models(folder)
        rows = [
            (recipe, f"{difference(folder, number, data):.1e}")
            for number, (recipe, data) in enumerate(RECIPES.items())
        ]
    lines = [
        "The same float32 models and recipes through mergekit 0.1.4 and Mergery. DARE is not among them: its",
        "masks are random, and drawn otherwise (docs/departures.md, 2 and 3).",
        "",
        *table(("recipe", "largest difference, relative to the largest weight of the tensor"), rows),
    ]
    write("agreement", "Agreement with mergekit", lines)
