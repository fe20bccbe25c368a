"""Every architecture as transformers writes it, merged by names alone, compared with merges done by hand."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file
from torch import Tensor

from mergery import Recipe, merge

SIZE = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 32,
}
GROUPED = SIZE | {"num_key_value_heads": 1}
SPECIAL = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
EXPERTS = {"moe_intermediate_size": 8, "num_experts": 3, "num_experts_per_tok": 2}
VISION = {key: SIZE[key] for key in ("hidden_size", "intermediate_size", "num_attention_heads")}
VISION |= {"num_hidden_layers": 3, "image_size": 16, "patch_size": 8}
IMAGE = 39


@dataclass(frozen=True)
class Kind:
    """An architecture, and what a person who stacks its layers by hand knows of it."""

    model: type
    config: Callable[[], hf.PretrainedConfig]
    layers: str = "model.layers."
    end: tuple[str, ...] = ("model.norm.", "lm_head.")


def decoder(name: str, *end: str, **settings: object) -> Kind:
    """A decoder whose names are as Llama's, but for what stands at its end."""
    config = partial(getattr(hf, f"{name}Config"), **GROUPED | SPECIAL | settings)
    return Kind(
        getattr(hf, f"{name.removesuffix('Text')}ForCausalLM"), config, end=end or ("model.norm.", "lm_head.")
    )


T5 = partial(hf.T5Config, vocab_size=40, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2)
LLAVA = partial(
    hf.LlavaConfig,
    vision_config={"model_type": "clip_vision_model", "projection_dim": 16, **VISION},
    text_config={"model_type": "llama", **GROUPED, **SPECIAL},
    image_token_index=IMAGE,
    image_seq_length=4,
)
FALCON = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
GPT2 = {"vocab_size": 40, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32}

DECODERS = {
    "llama": decoder("Llama"),
    "mistral": decoder("Mistral", sliding_window=3),
    "qwen2": decoder("Qwen2"),
    "qwen3": decoder("Qwen3", head_dim=8),
    "gemma2": decoder("Gemma2", head_dim=8, sliding_window=3),
    "gemma3": decoder(
        "Gemma3Text", head_dim=8, sliding_window=3, layer_types=["sliding_attention", "full_attention"]
    ),
    "phi": decoder("Phi", "model.final_layernorm.", "lm_head.", num_key_value_heads=2),
    "phi3": decoder("Phi3"),
    "gpt2": Kind(
        hf.GPT2LMHeadModel,
        partial(hf.GPT2Config, **GPT2, **SPECIAL),
        "transformer.h.",
        ("transformer.ln_f.",),
    ),
    "gpt_neox": Kind(
        hf.GPTNeoXForCausalLM,
        partial(hf.GPTNeoXConfig, **SIZE, **SPECIAL),
        "gpt_neox.layers.",
        ("gpt_neox.final_layer_norm.", "embed_out."),
    ),
    "olmo2": decoder("Olmo2"),
    "falcon": Kind(
        hf.FalconForCausalLM,
        partial(hf.FalconConfig, **FALCON, **SPECIAL),
        "transformer.h.",
        ("transformer.ln_f.",),
    ),
    "mixtral": decoder("Mixtral", num_local_experts=3),
    "qwen2_moe": decoder("Qwen2Moe", **EXPERTS, shared_expert_intermediate_size=8),
    "qwen3_moe": decoder("Qwen3Moe", **EXPERTS, head_dim=8),
    "llava": Kind(
        hf.LlavaForConditionalGeneration,
        LLAVA,
        "language_model.model.layers.",
        ("language_model.model.norm.",),
    ),
}
OTHERS = {
    "bert": Kind(hf.BertForMaskedLM, partial(hf.BertConfig, **SIZE)),
    "roberta": Kind(hf.RobertaForMaskedLM, partial(hf.RobertaConfig, **SIZE, **SPECIAL)),
    "t5": Kind(hf.T5ForConditionalGeneration, T5),
    "t5_untied": Kind(
        hf.T5ForConditionalGeneration, partial(T5, feed_forward_proj="gated-gelu", tie_word_embeddings=False)
    ),
}
KINDS = DECODERS | OTHERS


@dataclass(frozen=True)
class Family:
    """A base and two fine-tunes of it, on disk."""

    kind: Kind
    base: Path
    one: Path
    two: Path


def written(kind: Kind, folder: Path, name: str, seed: int, **how: object) -> Path:
    """A random model and, from seed 1 on, a neighbour of it."""
    torch.manual_seed(0)
    model = kind.model(kind.config())
    torch.manual_seed(1000 + seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
            if not seed:  # all values of the base are random, those of norms and biases, too
                parameter *= 0.7
    model.save_pretrained(folder / name, **how)
    return folder / name


@pytest.fixture(scope="module")
def families(tmp_path_factory) -> Callable[[str], Family]:
    made: dict[str, Family] = {}

    def family(name: str) -> Family:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            kind = KINDS[name]
            paths = [written(kind, folder, model, seed) for seed, model in enumerate(("base", "one", "two"))]
            made[name] = Family(kind, *paths)
        return made[name]

    return family


def tensors(directory: Path) -> dict[str, Tensor]:
    return load_file(directory / "model.safetensors")


@torch.no_grad()
def logits(kind: Kind, directory: Path) -> Tensor:
    """What the stock class computes, loaded as anybody would."""
    model, report = kind.model.from_pretrained(directory, output_loading_info=True, dtype=torch.float32)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    return run(model.eval())


def run(model: hf.PreTrainedModel) -> Tensor:
    torch.manual_seed(5)
    inputs: dict[str, Tensor] = {"input_ids": torch.randint(3, IMAGE, (2, 9))}
    if model.config.is_encoder_decoder:
        inputs["decoder_input_ids"] = torch.randint(3, IMAGE, (2, 5))
    if model.config.model_type == "llava":
        inputs["input_ids"][:, 2:6] = IMAGE
        inputs["pixel_values"] = torch.randn(2, 3, 16, 16)
    return model(**inputs).logits


def by_hand(directory: Path, template: Path, merged: Mapping[str, Tensor]) -> Path:
    """A model directory with the given tensors, written without Mergery."""
    directory.mkdir()
    (directory / "config.json").write_text((template / "config.json").read_text())
    save_file({name: tensor.contiguous() for name, tensor in merged.items()}, directory / "model.safetensors")
    return directory


def assert_same(directory: Path, expected: Mapping[str, Tensor]) -> None:
    """The directory's tensors, and nothing else, to the bit."""
    found = tensors(directory)
    assert sorted(found) == sorted(expected)
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())


def assert_close(kind: Kind, directory: Path, hand: Path) -> None:
    """Both compute the same logits."""
    torch.testing.assert_close(logits(kind, directory), logits(kind, hand), rtol=1e-4, atol=1e-5)


def halves(*models: Path) -> dict[str, object]:
    """The mean of two models."""
    listed = [{"model": str(model), "parameters": {"weight": 0.5}} for model in models]
    return {"merge_method": "linear", "models": listed}


def linear(base: Tensor, one: Tensor, two: Tensor) -> Tensor:
    return (base + 2 * one + 3 * two) / 6


def arithmetic(base: Tensor, one: Tensor, two: Tensor) -> Tensor:
    return base + 0.5 * (0.8 * (one - base) + 0.3 * (two - base))


def slerp(base: Tensor, one: Tensor, two: Tensor) -> Tensor:
    """At t = 0.3 between base and one."""
    cosine = (base * one).sum() / (base.norm() * one.norm())
    if cosine.abs() > 0.9995:
        return 0.7 * base + 0.3 * one
    angle = cosine.acos()
    return ((0.7 * angle).sin() * base + (0.3 * angle).sin() * one) / angle.sin()


def recipes(*paths: Path) -> list[tuple[Callable[..., Tensor], dict[str, object]]]:
    base, one, two = map(str, paths)

    def weighted(**weights: float) -> list[dict[str, object]]:
        return [{"model": models[name], "parameters": {"weight": w}} for name, w in weights.items()]

    models = {"base": base, "one": one, "two": two}
    sphere = {"base_model": base, "models": [{"model": one}], "parameters": {"t": 0.3}}
    task = {"base_model": base, "models": weighted(one=0.8, two=0.3), "parameters": {"lambda": 0.5}}
    return [
        (linear, {"merge_method": "linear", "models": weighted(base=1, one=2, two=3)}),
        (arithmetic, {"merge_method": "task_arithmetic", **task}),
        (slerp, {"merge_method": "slerp", **sphere}),
    ]


@pytest.mark.parametrize("name", KINDS)
def test_a_merge_computes_what_one_done_by_hand_computes(families, tmp_path, name):
    family = families(name)
    models = [tensors(path) for path in (family.base, family.one, family.two)]
    for formula, recipe in recipes(family.base, family.one, family.two):
        out = tmp_path / formula.__name__
        merged = merge(Recipe.from_dict(recipe), out)
        assert merged.risks == ()
        expected = {
            tensor: formula(*(model[tensor].double() for model in models)).float() for tensor in models[0]
        }
        assert tensors(out).keys() == expected.keys()
        hand = by_hand(tmp_path / f"{formula.__name__}-hand", family.base, expected)
        assert_close(family.kind, out, hand)
        assert not torch.allclose(logits(family.kind, out), logits(family.kind, family.base), atol=1e-3)


@pytest.mark.parametrize("name", DECODERS)
def test_layers_stacked_by_slices_compute_what_a_model_built_by_hand_computes(families, tmp_path, name):
    family = families(name)
    slices = [
        {"sources": [{"model": str(family.one), "layer_range": [0, 2]}]},
        {"sources": [{"model": str(family.two), "layer_range": [1, 2]}]},
    ]
    out = tmp_path / "out"
    merge(Recipe.from_dict({"merge_method": "passthrough", "slices": slices}), out)
    one, two = tensors(family.one), tensors(family.two)
    kind = family.kind
    stacked = {n: (two if n.startswith((*kind.end, "language_model.lm_head.")) else one)[n] for n in one}
    last = f"{kind.layers}1."
    stacked |= {f"{kind.layers}2.{n.removeprefix(last)}": t for n, t in two.items() if n.startswith(last)}
    hand = by_hand(tmp_path / "hand", family.one, stacked)
    deeper(hand / "config.json")
    assert_same(out, stacked)
    assert_close(kind, out, hand)


def deeper(file: Path) -> None:
    """Write three layers into a configuration, the third as the second."""
    config = json.loads(file.read_text())
    text = config.get("text_config", config)
    text["n_layer" if "n_layer" in text else "num_hidden_layers"] = 3
    if "layer_types" in text:
        text["layer_types"] = [*text["layer_types"], text["layer_types"][1]]
    file.write_text(json.dumps(config))


def test_stacks_of_a_model_with_two_are_stacked_by_modules(families, tmp_path):
    family = families("t5_untied")

    def layers(path: Path, start: int, end: int) -> dict[str, object]:
        return {"sources": [{"model": str(path), "layer_range": [start, end]}]}

    modules = {
        "shared": {"models": [{"model": str(family.one)}]},
        "encoder": {"slices": [layers(family.one, 0, 2), layers(family.two, 0, 1)]},
        "decoder": {"slices": [layers(family.two, 0, 1)]},
    }
    out = tmp_path / "out"
    merge(Recipe.from_dict({"merge_method": "passthrough", "modules": modules}), out)
    one, two = tensors(family.one), tensors(family.two)
    bias = "relative_attention_bias"
    hand = {n: t for n, t in one.items() if n.startswith(("shared.", "encoder.block.")) or bias in n}
    hand |= {
        n.replace("block.0.", "block.2."): t
        for n, t in two.items()
        if n.startswith("encoder.block.0.") and bias not in n
    }
    hand |= {n: t for n, t in two.items() if n.startswith(("decoder.block.0.", "lm_head."))}
    hand |= {
        f"{side}.final_layer_norm.weight": two[f"{side}.final_layer_norm.weight"]
        for side in ("encoder", "decoder")
    }
    directory = by_hand(tmp_path / "hand", family.one, hand)
    config = json.loads((directory / "config.json").read_text()) | {"num_layers": 3, "num_decoder_layers": 1}
    (directory / "config.json").write_text(json.dumps(config))
    assert_same(out, hand)
    assert_close(family.kind, out, directory)


@pytest.mark.parametrize("name", ["mixtral", "qwen2_moe", "qwen3_moe"])
@pytest.mark.parametrize("fused", ["first", "second"])
def test_experts_stored_one_by_one_merge_with_experts_in_one_tensor(families, tmp_path, name, fused):
    family = families(name)
    again = {
        which: written(family.kind, tmp_path, which, seed, save_original_format=False)
        for seed, which in enumerate(("base", "one"))
    }
    assert tensors(again["one"]).keys() != tensors(family.one).keys()
    base, one = (again["base"], family.one) if fused == "first" else (family.base, again["one"])
    out = tmp_path / "out"
    merged = merge(Recipe.from_dict(halves(base, one)), out)
    assert tensors(out).keys() == tensors(base).keys()
    assert "store experts differently" in merged.risks[0]
    models = [tensors(family.base), tensors(family.one)]
    means = {n: ((models[0][n].double() + models[1][n].double()) / 2).float() for n in models[0]}
    assert_close(family.kind, out, by_hand(tmp_path / "hand", family.base, means))


def test_a_bare_model_merges_with_one_that_has_a_head(families, tmp_path):
    """What AutoModel saves has no ``model.`` before its names; its embedding is its output matrix."""
    family = families("llama")
    config = copy.deepcopy(family.kind.config())
    config.tie_word_embeddings = True
    torch.manual_seed(7)
    bare = hf.LlamaModel(config)
    bare.save_pretrained(tmp_path / "bare")
    merged = merge(Recipe.from_dict(halves(family.base, tmp_path / "bare")), tmp_path / "out")
    assert any("ties it to model.embed_tokens.weight" in risk for risk in merged.risks)
    base = tensors(family.base)
    other = {f"model.{name}": tensor for name, tensor in tensors(tmp_path / "bare").items()}
    other["lm_head.weight"] = other["model.embed_tokens.weight"]
    means = {name: ((base[name].double() + other[name].double()) / 2).float() for name in base}
    assert_close(family.kind, tmp_path / "out", by_hand(tmp_path / "hand", family.base, means))


@pytest.mark.parametrize("name", ["llama", "gpt2", "falcon", "gpt_neox", "bert", "roberta"])
def test_a_model_that_ties_its_embeddings_merges_with_one_that_does_not(tmp_path, name):
    kind = KINDS[name]
    models = []
    for tie in (True, False):
        config = kind.config()
        config.tie_word_embeddings = tie
        torch.manual_seed(int(tie))
        models.append(kind.model(config).eval())
        models[-1].save_pretrained(tmp_path / str(tie))
    merged = merge(Recipe.from_dict(halves(tmp_path / "True", tmp_path / "False")), tmp_path / "out")
    assert any("stands for it; in the result the two are not tied" in risk for risk in merged.risks)
    tied, untied = (model.state_dict() for model in models)
    config = kind.config()
    config.tie_word_embeddings = False
    hand = kind.model(config).eval()
    hand.load_state_dict({key: (tied[key] + untied[key]) / 2 for key in untied})
    with torch.no_grad():
        torch.testing.assert_close(logits(kind, tmp_path / "out"), run(hand), rtol=1e-4, atol=1e-5)


def test_a_language_model_merges_into_the_decoder_of_a_vision_language_model(families, tmp_path):
    family = families("llava")
    plain = written(DECODERS["llama"], tmp_path, "plain", 3)
    both = halves(family.base, plain)
    alone = {"models": [{"model": str(family.base), "parameters": {"weight": 1}}]}
    modules = {
        "text_decoder": {"models": both["models"]},
        "vision_tower": alone,
        "multi_modal_projector": alone,
    }
    by_modules = merge(Recipe.from_dict({"merge_method": "linear", "modules": modules}), tmp_path / "modules")
    unmatched = [{"filter": part, "action": "copy"} for part in ("vision_tower", "multi_modal_projector")]
    by_name = merge(Recipe.from_dict(both | {"unmatched": unmatched}), tmp_path / "names")
    assert any("copied from the first model that has them" in risk for risk in by_name.risks)
    base, other = tensors(family.base), tensors(plain)
    assert {len(tensors(merged.directory)) for merged in (by_modules, by_name)} == {len(base)}
    hand = {
        name: (tensor.double() + other[name.removeprefix("language_model.")].double()).float() / 2
        if name.startswith("language_model.")
        else tensor
        for name, tensor in base.items()
    }
    directory = by_hand(tmp_path / "hand", family.base, hand)
    for merged in (by_modules, by_name):
        assert_close(family.kind, merged.directory, directory)
