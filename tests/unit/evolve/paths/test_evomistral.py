from __future__ import annotations

import json

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file

from layered import literal_graph, random_model
from mergery import Recipe, merge
from mergery.errors import CheckpointError, OutputError, RecipeError
from mergery.evolve.paths import LivePaths
from mergery.evolve.paths.evomistral import evomistral_recipe, open_evomistral, read_evomistral

LAYERS = [0, 1, 3, 1, 2, 2, 3]
SCALES = [1.0, 0.5, 1.25, 2.0, 0.75, 1.5, 0.875]


@pytest.fixture
def write(tmp_path, tokenizer):
    """Four stored Mistral layers and seven hops, in two files, as the released model's directory has it."""

    def written(layers=LAYERS, scales=SCALES):
        directory = tmp_path / "evo"
        random_model("mistral", 0, num_hidden_layers=4).save_pretrained(directory, max_shard_size="4KB")
        tokenizer.save_pretrained(directory)
        index = json.loads((directory / "model.safetensors.index.json").read_text())
        last = sorted(index["weight_map"].values())[-1]
        own = {
            "model.input_layers": torch.tensor(layers),
            "model.input_scales": torch.tensor(scales, dtype=torch.float32),
        }
        save_file(load_file(directory / last) | own, directory / last, {"format": "pt"})
        index["weight_map"] |= dict.fromkeys(own, last)
        (directory / "model.safetensors.index.json").write_text(json.dumps(index))
        config = json.loads((directory / "config.json").read_text())
        config |= {
            "model_type": "evomistral",
            "architectures": ["EvoMistralForCausalLM"],
            "auto_map": {"AutoModelForCausalLM": "modeling_evomistral.EvoMistralForCausalLM"},
            "num_hops": len(layers),
            "use_cache": False,
        }
        (directory / "config.json").write_text(json.dumps(config))
        (directory / "modeling_evomistral.py").write_text("raise SystemExit('remote code')")
        return directory

    return written


@pytest.mark.parametrize(
    ("scales_by", "scales"),
    [
        ("hop", SCALES),
        ("layer", [SCALES[0], SCALES[1], SCALES[3], SCALES[1], SCALES[2], SCALES[2], SCALES[3]]),
    ],
)
def test_it_becomes_a_stock_mistral(scales_by, scales, write, tmp_path, ids):
    directory = write()
    path = read_evomistral(directory, scales_by=scales_by)
    assert [hop.layer for hop in path.hops] == LAYERS
    stored = open_evomistral(directory, tmp_path / "stored")
    recipe = evomistral_recipe(path, stored)
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe
    merge(recipe, tmp_path / "out")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["model_type"] == "mistral"
    assert config["num_hidden_layers"] == 7
    assert not config.keys() & {"auto_map", "num_hops"}
    assert not list((tmp_path / "out").glob("*.py"))

    model = random_model("mistral", 0, num_hidden_layers=4)
    literal = literal_graph([model], [(0, layer) for layer in LAYERS], scales, {"num_hidden_layers": 7})
    written, told = hf.AutoModelForCausalLM.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not told["unexpected_keys"]
    live = LivePaths([stored]).build(path)
    with torch.inference_mode():
        wanted, got, searched = (one(input_ids=ids[:20]).logits for one in (literal, written, live))
    assert (got - wanted).abs().max() < 1e-3 * wanted.abs().max()
    assert (searched - wanted).abs().max() < 1e-3 * wanted.abs().max()
    assert torch.equal(got.argmax(-1), wanted.argmax(-1))


def test_its_weights_are_linked(write, tmp_path):
    open_evomistral(write(), tmp_path / "stored")
    files = [file for file in (tmp_path / "stored").iterdir() if file.suffix == ".safetensors"]
    assert len(files) > 1
    assert all(file.is_symlink() for file in files)
    with pytest.raises(OutputError, match="already holds something"):
        open_evomistral(tmp_path / "evo", tmp_path / "stored")


@pytest.mark.parametrize(
    ("layers", "scales", "error", "message"),
    [
        ([0, 1, 4], [1.0] * 3, CheckpointError, "stores 4 layers and runs layer 4"),
        ([0, 1, 3], [1.0] * 2, CheckpointError, "3 layers and 2 scales"),
        ([0, 1, 3], [1.0, -0.5, 1.0], RecipeError, "scale 1 is -0.5"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(layers, scales, error, message, write):
    with pytest.raises(error, match=message):
        read_evomistral(write(layers, scales), scales_by="hop")


def test_other_models_are_not_in_this_format(make_kind):
    directory = make_kind("plain", "mistral", 0)
    with pytest.raises(CheckpointError, match=r"no model\.input_layers"):
        read_evomistral(directory, scales_by="hop")
