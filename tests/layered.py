"""Tiny random models of every architecture that paths know; the paper's graph of layers, word for word."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import transformers as hf

SIZE = {
    "vocab_size": 40,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 128,
    "initializer_range": 0.3,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}
HEADS = {"num_key_value_heads": 2}
EXPERTS = {"moe_intermediate_size": 8, "num_experts": 3, "num_experts_per_tok": 2}
TYPES = {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"], "sliding_window": 6}
GPT2 = {"n_embd": 16, "n_layer": 3, "n_head": 2, "n_positions": 128}

KINDS: dict[str, tuple[str, dict[str, object]]] = {
    "llama": ("Llama", {"attention_bias": True}),
    "mistral": ("Mistral", {"sliding_window": 6}),
    "ministral": ("Ministral", {"head_dim": 8, **TYPES}),
    "qwen2": ("Qwen2", {"use_sliding_window": True, **TYPES}),
    "qwen3": ("Qwen3", {"head_dim": 8}),
    "phi3": ("Phi3", {}),
    "gemma": ("Gemma", {"head_dim": 8}),
    "gemma2": ("Gemma2", {"head_dim": 8, **TYPES}),
    "gemma3_text": ("Gemma3Text", {"head_dim": 8, **TYPES}),
    "granite": ("Granite", {"residual_multiplier": 0.7, "embedding_multiplier": 3.0}),
    "cohere": ("Cohere", {}),
    "cohere2": ("Cohere2", {"head_dim": 8, **TYPES}),
    "glm": ("Glm", {"head_dim": 8}),
    "glm4": ("Glm4", {"head_dim": 8}),
    "olmo": ("Olmo", {}),
    "helium": ("Helium", {"head_dim": 8}),
    "seed_oss": ("SeedOss", {"head_dim": 8}),
    "stablelm": ("StableLm", {}),
    "starcoder2": ("Starcoder2", {}),
    "phi": ("Phi", HEADS),
    "gpt_neox": ("GPTNeoX", HEADS),
    "falcon": ("Falcon", {"new_decoder_architecture": False, "parallel_attn": False, "bias": True}),
    "gpt2": ("GPT2", GPT2),
    "gpt_bigcode": ("GPTBigCode", GPT2),
    "gptj": ("GPTJ", {**GPT2, "rotary_dim": 4}),
    "mixtral": ("Mixtral", {"num_local_experts": 3}),
    "qwen2_moe": ("Qwen2Moe", {**EXPERTS, "shared_expert_intermediate_size": 8}),
    "qwen3_moe": ("Qwen3Moe", {**EXPERTS, "head_dim": 8}),
    "olmoe": ("Olmoe", {"num_experts": 3, "num_experts_per_tok": 2}),
    "olmo2": ("Olmo2", {}),
}
"""By ``model_type``: the configuration's class, and what is not as in SIZE."""


def config_of(kind: str, **changes: object) -> hf.PretrainedConfig:
    name, own = KINDS[kind]
    settings = {key: value for key, value in SIZE.items() if not (own is GPT2 and key in ("hidden_size",))}
    return getattr(hf, f"{name}Config")(**settings | own | changes)


def random_model(kind: str, seed: int, **changes: object) -> hf.PreTrainedModel:
    """A model none of whose tensors is all zeros or all ones."""
    torch.manual_seed(seed)
    model = hf.AutoModelForCausalLM.from_config(config_of(kind, **changes)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter += 0.1 * torch.randn_like(parameter)
            if "embed" in name or "wte" in name:
                parameter *= 3.0
    return model


def stack_of(model: hf.PreTrainedModel) -> tuple[str, torch.nn.ModuleList]:
    """The list of layers by the names that people know."""
    for name in ("model.layers", "gpt_neox.layers", "transformer.h"):
        try:
            return name, model.get_submodule(name)
        except AttributeError:
            continue
    raise AssertionError


def literal_graph(
    models: list[hf.PreTrainedModel],
    visits: list[tuple[int, int]],
    scales: list[float],
    config: Mapping[str, object],
) -> hf.PreTrainedModel:
    """The paper's graph, word for word: copies of the layers in order, the stream multiplied before each."""
    data = models[0].config.to_dict() | config
    model = hf.AutoModelForCausalLM.from_config(type(models[0].config).from_dict(data)).eval()
    stack, _ = stack_of(model)
    weights = {
        name: value for name, value in models[0].state_dict().items() if not name.startswith(f"{stack}.")
    }
    for place, (number, layer) in enumerate(visits):
        inside = stack_of(models[number])[1][layer].state_dict()
        weights |= {f"{stack}.{place}.{name}": value.clone() for name, value in inside.items()}
    model.load_state_dict(weights)
    for layer, scale in zip(stack_of(model)[1], scales, strict=True):
        layer.register_forward_pre_hook(lambda _, args, scale=scale: (scale * args[0], *args[1:]))
    return model
