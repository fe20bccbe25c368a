"""What tensor names say: layers, roles, modules, tied partners."""

from __future__ import annotations

import pytest

from mergery.checkpoint import layer_name
from mergery.checkpoint.architecture import (
    is_derived,
    is_output_matrix,
    language_stacks,
    module_of,
    role,
    stands_before_layers,
    tied_partner,
)


@pytest.mark.parametrize(
    ("name", "stack", "index", "kind"),
    [
        ("model.layers.11.self_attn.q_proj.weight", "model.layers.", 11, "attention"),
        ("model.layers.0.mlp.gate_up_proj.weight", "model.layers.", 0, "mlp"),
        ("model.layers.2.mlp.experts.7.down_proj.weight", "model.layers.", 2, "mlp"),
        ("model.layers.2.mlp.experts.gate_up_proj", "model.layers.", 2, "mlp"),
        ("model.layers.3.block_sparse_moe.experts.5.w1.weight", "model.layers.", 3, "mlp"),
        ("model.layers.3.block_sparse_moe.gate.weight", "model.layers.", 3, "mlp"),
        ("model.layers.4.pre_feedforward_layernorm.weight", "model.layers.", 4, "norm"),
        ("transformer.h.1.attn.c_attn.bias", "transformer.h.", 1, "attention"),
        ("h.1.mlp.c_fc.weight", "h.", 1, "mlp"),
        ("transformer.h.0.self_attention.query_key_value.weight", "transformer.h.", 0, "attention"),
        ("gpt_neox.layers.5.attention.dense.weight", "gpt_neox.layers.", 5, "attention"),
        ("bert.encoder.layer.3.output.dense.weight", "bert.encoder.layer.", 3, "mlp"),
        ("bert.encoder.layer.3.attention.output.dense.bias", "bert.encoder.layer.", 3, "attention"),
        ("encoder.block.1.layer.0.SelfAttention.q.weight", "encoder.block.", 1, "attention"),
        ("decoder.block.1.layer.2.DenseReluDense.wi_0.weight", "decoder.block.", 1, "mlp"),
        ("model.decoder.layers.0.fc1.weight", "model.decoder.layers.", 0, "mlp"),
        (
            "language_model.model.layers.1.mlp.up_proj.weight",
            "language_model.model.layers.",
            1,
            "mlp",
        ),
        (
            "vision_tower.vision_model.encoder.layers.2.layer_norm1.bias",
            "vision_tower.vision_model.encoder.layers.",
            2,
            "norm",
        ),
        ("visual.blocks.0.attn.qkv.weight", "visual.blocks.", 0, "attention"),
        ("mtp.layers.0.self_attn.q_proj.weight", "mtp.layers.", 0, "attention"),
    ],
)
def test_names_of_layers(name, stack, index, kind):
    parsed = layer_name(name)
    assert (parsed.stack, parsed.index, role(name)) == (stack, index, kind)
    assert parsed.at(index) == name


@pytest.mark.parametrize(
    ("name", "kind", "before"),
    [
        ("model.embed_tokens.weight", "embedding", True),
        ("transformer.wpe.weight", "embedding", True),
        ("transformer.word_embeddings.weight", "embedding", True),
        ("gpt_neox.embed_in.weight", "embedding", True),
        ("shared.weight", "embedding", True),
        ("bert.embeddings.LayerNorm.weight", "norm", True),
        ("encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", "attention", True),
        ("vision_tower.pre_layrnorm.weight", "norm", True),
        ("model.norm.weight", "norm", False),
        ("transformer.ln_f.bias", "norm", False),
        ("model.embedding_norm.weight", "norm", False),
        ("embed_out.weight", "head", False),
        ("lm_head.weight", "head", False),
        ("lm_head.dense.weight", "head", False),
        ("cls.predictions.bias", "head", False),
        ("classifier.weight", "head", False),
        ("proj_out.weight", "head", False),
        ("vocab_projector.bias", "head", False),
        ("decoder.weight", "head", False),
        ("model.encoder.conv1.weight", "other", True),
        ("bert.pooler.dense.weight", "other", False),
        ("visual.merger.mlp.0.weight", "mlp", False),
        ("mm_projector.2.bias", "other", False),
        ("model.experts.3.w1.weight", "mlp", False),
    ],
)
def test_names_outside_of_layers(name, kind, before):
    assert layer_name(name) is None
    assert (role(name), stands_before_layers(name)) == (kind, before)


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("model.layers.0.mlp.up_proj.weight", "text_decoder"),
        ("language_model.model.embed_tokens.weight", "text_decoder"),
        ("lm_head.weight", "text_decoder"),
        ("vision_tower.vision_model.post_layernorm.weight", "vision_tower"),
        ("model.visual.blocks.0.norm1.weight", "vision_tower"),
        ("visual.merger.ln_q.weight", "multi_modal_projector"),
        ("model.visual.deepstack_merger_list.0.norm.weight", "multi_modal_projector"),
        ("multi_modal_projector.linear_1.weight", "multi_modal_projector"),
        ("audio_tower.layers.0.fc1.weight", "audio_tower"),
    ],
)
def test_modules(name, module):
    assert module_of(name) == module


def test_the_language_models_stack_is_neither_a_tower_nor_what_predicts_several_tokens():
    stacks = ["vision_tower.encoder.layers.", "model.layers.", "mtp.layers.", "model.visual.blocks."]
    assert language_stacks(stacks) == ["model.layers."]
    assert language_stacks(["encoder.block.", "decoder.block."]) == ["encoder.block.", "decoder.block."]


@pytest.mark.parametrize(
    ("name", "names", "partner"),
    [
        ("lm_head.weight", ["model.embed_tokens.weight", "model.norm.weight"], "model.embed_tokens.weight"),
        ("embed_out.weight", ["gpt_neox.embed_in.weight"], "gpt_neox.embed_in.weight"),
        ("lm_head.weight", ["transformer.wpe.weight", "transformer.wte.weight"], "transformer.wte.weight"),
        (
            "cls.predictions.decoder.weight",
            ["bert.embeddings.position_embeddings.weight", "bert.embeddings.word_embeddings.weight"],
            "bert.embeddings.word_embeddings.weight",
        ),
        ("cls.predictions.decoder.bias", ["cls.predictions.bias"], "cls.predictions.bias"),
        ("lm_head.weight", ["backbone.embeddings.weight"], "backbone.embeddings.weight"),
        ("proj_out.weight", ["model.decoder.embed_tokens.weight"], "model.decoder.embed_tokens.weight"),
        ("lm_head.decoder.bias", ["lm_head.bias"], "lm_head.bias"),
        ("encoder.embed_tokens.weight", ["decoder.embed_tokens.weight", "shared.weight"], "shared.weight"),
        ("lm_head.weight", ["encoder.embed_tokens.weight", "decoder.embed_tokens.weight"], None),
        ("lm_head.weight", ["vision_tower.embed_tokens.weight"], None),
        ("model.norm.weight", ["model.embed_tokens.weight"], None),
        ("lm_head.weight", [], None),
    ],
)
def test_tied_partners(name, names, partner):
    assert tied_partner(name, names) == partner


def test_output_matrices():
    for name in ("lm_head.weight", "embed_out.weight", "cls.predictions.decoder.weight"):
        assert is_output_matrix(name)
    for name in ("lm_head.bias", "lm_head.dense.weight", "model.embed_tokens.weight"):
        assert not is_output_matrix(name)


@pytest.mark.parametrize(
    ("name", "shape", "derived"),
    [
        ("model.layers.0.self_attn.rotary_emb.inv_freq", (4,), True),
        ("bert.embeddings.position_ids", (1, 32), True),
        ("transformer.h.0.attn.bias", (1, 1, 32, 32), True),
        ("gpt_neox.layers.0.attention.masked_bias", (), True),
        ("transformer.h.0.attn.bias", (32,), False),
        ("transformer.h.0.attn.c_attn.bias", (96,), False),
        ("model.layers.0.self_attn.q_proj.bias", (16,), False),
    ],
)
def test_buffers_that_models_compute_themselves(name, shape, derived):
    assert is_derived(name, shape) is derived
