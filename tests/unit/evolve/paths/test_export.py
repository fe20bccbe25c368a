from __future__ import annotations

import json

import pytest
import torch
import transformers as hf
import yaml

from layered import KINDS, literal_graph, random_model
from mergery import Recipe, merge
from mergery.checkpoint import ModelRef
from mergery.errors import CheckpointError, RecipeError
from mergery.evolve.paths import Hop, LivePaths, Path, path_recipe

VISITS = [(0, 0), (1, 1), (1, 2), (0, 1), (0, 1), (1, 0), (0, 2)]
SCALES = [1.0, 0.8, 1.3, 0.7, 1.2, 0.9, 1.1]
FOLDED = [kind for kind in KINDS if kind != "olmo2"]
NAMED = ("llama", "mistral", "qwen2", "qwen3", "gpt_neox", "gpt2", "gemma2", "gemma3_text")
"""Those that are compared on ten thousand tokens; the others on one thousand."""


def lists_of(model: hf.PreTrainedModel) -> dict[str, object]:
    """The configuration of seven hops, by hand."""
    data = model.config.to_dict()
    count = "n_layer" if "n_layer" in data else "num_hidden_layers"
    kinds = data.get("layer_types")
    return {count: len(VISITS)} | ({"layer_types": [kinds[layer] for _, layer in VISITS]} if kinds else {})


@pytest.fixture
def pair(make_kind):
    return lambda kind: [ModelRef(str(make_kind(name, kind, seed))) for seed, name in enumerate("ab")]


@pytest.mark.parametrize("kind", FOLDED)
def test_the_written_model_computes_the_papers_graph(kind, pair, ids, tmp_path):
    refs, ids = pair(kind), ids if kind in NAMED else ids[:10]
    path = Path.from_scales(VISITS, SCALES)
    merge(path_recipe(path, refs), tmp_path / "out")
    models = [random_model(kind, seed) for seed in range(2)]
    literal = literal_graph(models, VISITS, SCALES, lists_of(models[0]))
    written = hf.AutoModelForCausalLM.from_pretrained(tmp_path / "out", trust_remote_code=False)
    live = LivePaths(refs).build(path)
    assert type(live) is type(written) is type(models[0])
    assert live.config.to_dict() | {"_name_or_path": ""} == written.config.to_dict() | {"_name_or_path": ""}
    with torch.inference_mode():
        wanted = literal(input_ids=ids, use_cache=False).logits
        got = written(input_ids=ids, use_cache=False).logits
        searched = live(input_ids=ids, use_cache=False).logits
    assert (got - wanted).abs().max() < 1e-3 * wanted.abs().max()
    assert (searched - got).abs().max() < 1e-4 * wanted.abs().max()
    best = wanted.topk(2).values
    clear = best[..., 0] - best[..., 1] > 1e-5 * wanted.abs().max()
    for other in (got, searched):
        same = other.argmax(-1) == wanted.argmax(-1)
        assert same[clear].all()
        assert same.sum() >= ids.numel() - 1


def test_it_is_printed_as_plain_mergekit_yaml(pair):
    first, second = pair("llama")
    path = Path((Hop(0, 0), Hop(0, 1), Hop(1, 2, 0.5), Hop(1, 1), Hop(0, 1, 0.5), Hop(0, 2, 0.5)))
    recipe = path_recipe(path, [first, second])
    half = {
        "scale": [
            {"filter": "self_attn.o_proj", "value": 0.5},
            {"filter": "mlp.down_proj", "value": 0.5},
            {"filter": "*", "value": 1.0},
        ]
    }
    rows = [(first, [0, 2], None), (second, [2, 3], half), (second, [1, 2], None), (first, [1, 3], half)]
    assert yaml.safe_load(recipe.to_yaml()) == {
        "merge_method": "passthrough",
        "slices": [
            {"sources": [{"model": str(model), "layer_range": layers} | ({"parameters": own} if own else {})]}
            for model, layers, own in rows
        ],
    }
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe


def test_the_donor_gives_what_stands_around_layers_of_others(pair, ids, tmp_path):
    refs = pair("qwen2")
    path = Path((Hop(1, 0), Hop(0, 1, 0.8), Hop(1, 2, 1.25)))
    recipe = path_recipe(path, refs)
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe
    merge(recipe, tmp_path / "out")
    models = [random_model("qwen2", seed) for seed in range(2)]
    literal = literal_graph(models, [(1, 0), (0, 1), (1, 2)], [1.0, 1.25, 0.64], {"num_hidden_layers": 3})
    written = hf.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    with torch.inference_mode():
        wanted, got = (model(input_ids=ids[:10]).logits for model in (literal, written))
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)
    assert torch.equal(written.lm_head.weight, models[0].lm_head.weight)


def test_a_recipe_may_give_layers(pair, tmp_path):
    first, second = pair("llama")
    mixed = Recipe.from_dict(
        {
            "merge_method": "linear",
            "models": [
                {"model": str(first), "parameters": {"weight": 0.25}},
                {"model": str(second), "parameters": {"weight": 0.75}},
            ],
        }
    )
    recipe = path_recipe(Path((Hop(0, 0), Hop(1, 2, 0.5), Hop(1, 1), Hop(0, 2))), [first, mixed])
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe
    merge(recipe, tmp_path / "out")
    ours = hf.AutoModelForCausalLM.from_pretrained(tmp_path / "out").state_dict()
    one, two = (random_model("llama", seed).state_dict() for seed in range(2))
    for rest, factor in (
        ("self_attn.o_proj.weight", 0.5),
        ("self_attn.o_proj.bias", 0.5),
        ("mlp.up_proj.weight", 1),
    ):
        wanted = factor * (0.25 * one[f"model.layers.2.{rest}"] + 0.75 * two[f"model.layers.2.{rest}"])
        torch.testing.assert_close(ours[f"model.layers.1.{rest}"], wanted)
    assert torch.equal(ours["model.layers.3.mlp.up_proj.weight"], one["model.layers.2.mlp.up_proj.weight"])


def test_a_recipe_may_be_the_donor(pair, tmp_path):
    first, second = pair("llama")
    mixed = Recipe.from_dict(
        {"merge_method": "linear", "models": [{"model": str(first)}, {"model": str(second)}]}
    )
    for hops in ((Hop(0, 0), Hop(1, 1, 2.0), Hop(0, 1)), (Hop(1, 0), Hop(0, 1, 2.0))):
        out = tmp_path / str(len(hops))
        merge(path_recipe(Path(hops), [mixed, second]), out)
        ours = hf.AutoModelForCausalLM.from_pretrained(out).state_dict()
        one, two = (random_model("llama", seed).state_dict() for seed in range(2))
        name = "model.embed_tokens.weight"
        torch.testing.assert_close(ours[name], (one[name] + two[name]) / 2)
        assert json.loads((out / "config.json").read_text())["num_hidden_layers"] == len(hops)


@pytest.mark.parametrize(
    ("kind", "changes", "reason"),
    [
        ("olmo2", {}, "do not normalise what they read"),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx is True"),
    ],
)
def test_gains_are_refused_where_they_do_not_hold(kind, changes, reason, make_kind):
    ref = ModelRef(str(make_kind("model", kind, 0, **changes)))
    with pytest.raises(RecipeError, match=reason):
        path_recipe(Path((Hop(0, 0), Hop(0, 1, 0.5))), [ref])
    assert path_recipe(Path((Hop(0, 0), Hop(0, 1))), [ref]).slices


def test_unknown_architectures_are_refused(make_kind):
    directory = make_kind("model", "llama", 0)
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"model_type": "lama"}))
    with pytest.raises(RecipeError, match="not known where the blocks of lama write"):
        path_recipe(Path((Hop(0, 0, 0.5),)), [ModelRef(str(directory))])


def test_hops_to_no_model_are_refused(pair):
    with pytest.raises(RecipeError, match="runs through model 2, and there are 2"):
        path_recipe(Path((Hop(2, 0),)), pair("llama"))


def test_a_model_of_several_stacks_is_refused(write_t5):
    with pytest.raises(CheckpointError, match="has 2 stacks of layers"):
        path_recipe(Path((Hop(1, 0), Hop(0, 1))), [ModelRef(str(write_t5)), ModelRef("other/model")])


@pytest.fixture
def write_t5(tmp_path):
    config = hf.T5Config(vocab_size=40, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2)
    hf.T5ForConditionalGeneration(config).save_pretrained(tmp_path / "t5")
    return tmp_path / "t5"
