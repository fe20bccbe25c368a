"""Makes the adapters beside this file with peft 0.21, and what its ``merge_and_unload`` makes of them.

    python make.py      # wants torch, transformers and peft

Each folder gets a tiny model (``model.safetensors``), an adapter on it, and the tensors of the merged
model that differ from the model's (``merged.safetensors``).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
)

HERE = Path(__file__).parent
SIZES = {"vocab_size": 12, "hidden_size": 8, "intermediate_size": 12, "num_hidden_layers": 1}
HEADS = {"num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 8}
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def llama(**settings: Any) -> LlamaForCausalLM:
    return LlamaForCausalLM(LlamaConfig(**SIZES, **HEADS, initializer_range=0.2, **settings))


def gpt2() -> GPT2LMHeadModel:
    sizes = {"vocab_size": 12, "n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 8}
    return GPT2LMHeadModel(GPT2Config(**sizes, initializer_range=0.2, bos_token_id=0, eos_token_id=0))


def mixtral() -> MixtralForCausalLM:
    settings = {"num_local_experts": 3, "tie_word_embeddings": True}
    return MixtralForCausalLM(MixtralConfig(**SIZES, **HEADS, initializer_range=0.2, **settings))


def make(name: str, model: torch.nn.Module, config: LoraConfig) -> None:
    folder = HERE / name
    folder.mkdir(exist_ok=True)
    model.save_pretrained(folder, save_original_format=False)
    cls, base = type(model), folder / "model.safetensors"
    adapted = get_peft_model(cls.from_pretrained(folder), config)
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter += 0.3 * torch.randn_like(parameter)
    adapted.save_pretrained(folder / "adapter")
    merged = PeftModel.from_pretrained(cls.from_pretrained(folder), folder / "adapter").merge_and_unload()
    before, after = load_file(base), merged.state_dict()
    changed = {key: after[key].clone() for key, value in before.items() if not torch.equal(after[key], value)}
    save_file(changed, folder / "merged.safetensors")
    settings = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    settings["base_model_name_or_path"] = f"org/{name}"
    (folder / "adapter" / "adapter_config.json").write_text(json.dumps(settings, separators=(",", ":")))
    (folder / "config.json").write_text(json.dumps({"model_type": cls.config_class.model_type}))
    for unwanted in ("generation_config.json", "adapter/README.md"):
        (folder / unwanted).unlink(missing_ok=True)


if __name__ == "__main__":
    torch.manual_seed(0)
    patterns = {"rank_pattern": {"[qk]_proj": 3}, "alpha_pattern": {"^model.layers.0.mlp.down_proj": 5}}
    dora = LoraConfig(
        r=2,
        lora_alpha=3,
        use_dora=True,
        use_rslora=True,
        target_modules=[*LINEAR, "embed_tokens"],
        **patterns,
    )
    make("llama-dora", llama(tie_word_embeddings=True), dora)
    saved = LoraConfig(
        r=2,
        target_modules=["q_proj"],
        bias="lora_only",
        lora_bias=True,
        modules_to_save=["norm", "lm_head"],
        trainable_token_indices=[7, 2],
    )
    make("llama-saved", llama(attention_bias=True), saved)
    columns = LoraConfig(r=2, use_dora=True, target_modules=["attn.c_proj", "c_fc", "wte"])
    make("gpt2-dora", gpt2(), columns)
    parameters = ["experts.gate_up_proj", "experts.down_proj", "gate.weight"]
    stacked = LoraConfig(r=2, target_modules=["v_proj"], target_parameters=parameters)
    make("mixtral", mixtral(), stacked)
