"""Merges that need more than weights: adapters, other vocabularies, nested recipes, defects restored."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from mergery import Recipe, merge


def tensors(directory: Path) -> dict[str, torch.Tensor]:
    return {
        name: tensor
        for file in sorted(directory.glob("*.safetensors"))
        for name, tensor in load_file(file).items()
    }


def test_a_model_with_an_adapter_is_that_model_changed(make_model, tmp_path):
    base, adapter = make_model("base"), tmp_path / "adapter"
    adapter.mkdir()
    name = "model.layers.1.mlp.down_proj"
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 24, generator=generator), torch.randn(16, 2, generator=generator)
    prefix = f"base_model.model.{name}"
    save_file(
        {f"{prefix}.lora_A.weight": a, f"{prefix}.lora_B.weight": b}, adapter / "adapter_model.safetensors"
    )
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 6, "target_modules": ["down_proj"]}
    (adapter / "adapter_config.json").write_text(json.dumps(settings | {"layers_to_transform": [1]}))
    recipe = {
        "merge_method": "task_arithmetic",
        "base_model": str(base),
        "models": [{"model": f"{base}+{adapter}", "parameters": {"weight": 0.5}}],
    }
    merge(Recipe.from_dict(recipe), tmp_path / "out")
    before, after = tensors(base), tensors(tmp_path / "out")
    expected = before[f"{name}.weight"].double() + 0.5 * 3.0 * (b.double() @ a.double())
    torch.testing.assert_close(after[f"{name}.weight"], expected.float(), rtol=1e-5, atol=1e-6)
    assert all(torch.equal(after[other], before[other]) for other in before if other != f"{name}.weight")


def words(vocabulary: list[str], directory: Path) -> None:
    trained = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<unk>"))
    trained.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=trained, unk_token="<unk>").save_pretrained(directory)


def test_a_union_of_vocabularies_takes_each_word_from_who_has_it(make_model, tmp_path):
    first = make_model("first", 0, vocab_size=4)
    second = make_model("second", 1, near=0, vocab_size=5)
    words(["<unk>", "one", "two", "three"], first)
    words(["<unk>", "two", "four", "one", "five"], second)
    recipe = {
        "merge_method": "linear",
        "models": [{"model": str(first)}, {"model": str(second), "parameters": {"weight": 3.0}}],
        "tokenizer_source": "union",
    }
    out = tmp_path / "out"
    merge(Recipe.from_dict(recipe), out)
    tokenizer = AutoTokenizer.from_pretrained(out)
    a = tensors(first)["model.embed_tokens.weight"].double().numpy()
    b = tensors(second)["model.embed_tokens.weight"].double().numpy()
    merged = tensors(out)["model.embed_tokens.weight"].numpy()
    rows = {
        "<unk>": (0, 0),
        "one": (1, 3),
        "two": (2, 1),
        "three": (3, None),
        "four": (None, 2),
        "five": (None, 4),
    }
    for word, (in_a, in_b) in rows.items():
        one = a[in_a] if in_a is not None else b[in_b]
        two = b[in_b] if in_b is not None else a[in_a]
        np.testing.assert_allclose(merged[tokenizer.vocab[word]], (one + 3 * two) / 4, rtol=1e-5, atol=1e-7)
    model = AutoModelForCausalLM.from_pretrained(out)
    assert model.config.vocab_size == len(merged) == 6
    assert tokenizer.decode(tokenizer("one five three")["input_ids"]) == "one five three"


def test_a_chat_template_is_written(make_model, tmp_path):
    recipe = {
        "merge_method": "linear",
        "models": [{"model": str(make_model("one"))}],
        "chat_template": "chatml",
    }
    merge(Recipe.from_dict(recipe), tmp_path / "out")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    text = tokenizer.apply_chat_template([{"role": "user", "content": "hello"}], tokenize=False)
    assert text == "<|im_start|>user\nhello<|im_end|>\n"


def test_a_nested_recipe_gives_what_merging_twice_gives(make_model, tmp_path):
    base, one, two = make_model("base"), make_model("one", 1, near=0), make_model("two", 2, near=0)
    inner = {
        "merge_method": "slerp",
        "base_model": str(one),
        "models": [{"model": str(two)}],
        "parameters": {"t": 0.3},
        "dtype": "bfloat16",
    }

    def outer(model: object) -> Recipe:
        sources = [{"model": model}, {"model": str(two)}]
        parameters = {"density": 0.6, "weight": 0.8}
        return Recipe.from_dict(
            {"merge_method": "ties", "base_model": str(base), "models": sources, "parameters": parameters}
        )

    merge(Recipe.from_dict(inner), tmp_path / "inner")
    merge(outer(str(tmp_path / "inner")), tmp_path / "twice")
    merge(outer(inner), tmp_path / "nested")
    twice, nested = tensors(tmp_path / "twice"), tensors(tmp_path / "nested")
    assert all(torch.equal(twice[name], nested[name]) for name in twice)


def test_mergekits_divisor_comes_back_with_compat(make_model, tmp_path):
    base, one, two = make_model("base"), make_model("one", 1, near=0), make_model("two", 2, near=0)
    weights = {str(one): 1.0, str(two): -0.4}

    def merged(out: str, **rest: object) -> dict[str, torch.Tensor]:
        sources = [{"model": m, "parameters": {"weight": w}} for m, w in weights.items()]
        recipe = {"merge_method": "ties", "base_model": str(base), "models": sources}
        merge(Recipe.from_dict(recipe | rest), tmp_path / out)
        return tensors(tmp_path / out)

    start, a, b = (tensors(model)["model.norm.weight"].double() for model in (base, one, two))
    changes = torch.stack([a - start, -0.4 * (b - start)])
    agrees = changes.sign() == torch.where(changes.sum(0) >= 0, 1.0, -1.0)
    total = (changes * agrees).sum(0)
    for compat, shares in ((None, (1.0, 0.4)), ("mergekit-0.1", (1.0, -0.4))):
        divisor = (agrees * torch.tensor(shares)[:, None]).sum(0)
        expected = start + total / torch.where(divisor == 0, 1.0, divisor)
        got = merged(f"out-{compat}", **({"compat": compat} if compat else {}))["model.norm.weight"]
        torch.testing.assert_close(got.double(), expected, rtol=1e-5, atol=1e-6)
