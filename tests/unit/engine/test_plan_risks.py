"""What fails in silence elsewhere is said before a weight is read."""

from __future__ import annotations

import json
import re

import pytest

from mergery.engine import make_plan
from mergery.engine.estimate import expected_seconds
from mergery.recipe import Recipe

SHAPES = {
    "model.embed_tokens.weight": (6, 4),
    "model.layers.0.self_attn.q_proj.weight": (4, 4),
    "model.layers.1.self_attn.q_proj.weight": (4, 4),
}
LLAMA = {"model_type": "llama", "num_hidden_layers": 2}


def recipe(*models, method="linear", **rest) -> Recipe:
    return Recipe.from_dict(
        {"merge_method": method, "models": [{"model": str(model)} for model in models]} | rest
    )


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ({"hidden_act": "silu"}, {"hidden_act": "gelu"}, "hidden_act is gelu in .*two and silu in .*one"),
        ({"model_type": "qwen2"}, {}, "model_type is llama in .* and qwen2 in"),
        (
            {"max_position_embeddings": 4096},
            {"max_position_embeddings": 32768},
            "max_position_embeddings is 32768",
        ),
        ({"rope_theta": 1e4}, {"rope_theta": 1e6}, r"rope_theta of rope is 1000000\.0 in .* and 10000\.0 in"),
        (
            {"rope_theta": 1e4, "rope_scaling": None},
            {"rope_theta": 1e4, "rope_scaling": {"type": "linear", "factor": 2.0}},
            "rope_type of rope is linear in .* and default in",
        ),
        ({"sliding_window": 4096}, {"sliding_window": None}, "sliding_window is None in .* and 4096 in"),
        ({"num_attention_heads": 2}, {"num_attention_heads": 4}, "cut into heads that do not correspond"),
        ({"rms_norm_eps": 1e-6}, {"rms_norm_eps": 1e-5}, "rms_norm_eps"),
        ({"num_hidden_layers": 2}, {"num_hidden_layers": 9}, r"two has 2 layers in model\.layers and says"),
        (
            {"text_config": {"hidden_act": "silu"}},
            {"text_config": {"hidden_act": "relu"}},
            "hidden_act is relu",
        ),
    ],
)
def test_settings_that_differ(write_model, first, second, said):
    one = write_model("one", SHAPES, **LLAMA | first)
    two = write_model("two", SHAPES, **LLAMA | second)
    risks = [risk for risk in make_plan(recipe(one, two)).risks if re.search(said, risk)]
    assert len(risks) == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"rope_theta": 1e4, "rope_scaling": None}, {"rope_theta": 1e4}),
        (
            {"rope_theta": 1e4, "rope_scaling": None},
            {"rope_parameters": {"rope_theta": 1e4, "rope_type": "default"}},
        ),
        (
            {"rope_theta": 1e6, "rope_local_base_freq": 1e4},
            {
                "rope_parameters": {
                    "full_attention": {"rope_theta": 1e6, "rope_type": "default"},
                    "sliding_attention": {"rope_theta": 1e4, "rope_type": "default"},
                }
            },
        ),
        ({"hidden_act": "silu"}, {}),
        ({"_name_or_path": "a", "transformers_version": "4"}, {"_name_or_path": "b"}),
        ({"rope_theta": 1e4}, {}),
    ],
)
def test_settings_that_only_look_different(write_model, first, second):
    one = write_model("one", SHAPES, **LLAMA | first)
    two = write_model("two", SHAPES, **LLAMA | second)
    assert make_plan(recipe(one, two)).risks == ()


def test_types_that_are_mixed(write_model):
    import torch

    one = write_model("one", SHAPES, dtype=torch.bfloat16)
    two = write_model("two", SHAPES)
    (risk,) = make_plan(recipe(one, two)).risks
    assert re.search(r"stored in different types \(.*one BF16, .*two F32\): .* the result is BF16", risk)


def test_tokenizers_that_differ_by_their_tokens(make_model):
    one, two = make_model("one"), make_model("two", 1)
    file = two / "tokenizer.json"
    file.write_text(file.read_text().replace('"cat"', '"kat"'))
    (risk,) = make_plan(recipe(one, two)).risks
    assert f"the tokenizers of {two} and {one} differ" in risk
    assert "1 token only in" in risk
    union = recipe(one, two, tokenizer_source="union")
    assert not any("tokenizers" in risk for risk in make_plan(union).risks)


def test_tokenizers_that_only_write_the_same_otherwise(make_model):
    one, two = make_model("one"), make_model("two", 1)
    file = two / "tokenizer.json"
    file.write_text(json.dumps(json.loads(file.read_text()), indent=7))
    assert make_plan(recipe(one, two)).risks == ()


def passthrough(*slices) -> Recipe:
    parts = [{"sources": [{"model": str(m), "layer_range": [start, end]}]} for m, start, end in slices]
    return Recipe.from_dict({"merge_method": "passthrough", "slices": parts})


def test_layers_whose_kind_follows_from_their_number(write_model):
    one = write_model("one", SHAPES, **LLAMA, sliding_window_pattern=6)
    (risk,) = make_plan(passthrough((one, 0, 2), (one, 1, 2))).risks
    assert "sliding_window_pattern is 6" in risk
    assert make_plan(passthrough((one, 0, 1), (one, 1, 2))).risks == ()
    told = write_model("told", SHAPES, **LLAMA, sliding_window_pattern=6, layer_types=["a", "b"])
    assert make_plan(passthrough((told, 0, 2), (told, 1, 2))).risks == ()


def test_a_tied_head_far_from_its_last_layers(write_model):
    one, two = (write_model(name, SHAPES, **LLAMA, tie_word_embeddings=True) for name in ("one", "two"))
    (risk,) = make_plan(passthrough((one, 0, 2), (two, 1, 2))).risks
    assert re.search("tied to the embedding of .*one, and the last layers come from .*two", risk)


def test_the_seconds_expected_grow_with_the_bytes(write_model):
    one, two = write_model("one", SHAPES, **LLAMA), write_model("two", SHAPES, **LLAMA)
    alone, both = (expected_seconds(make_plan(recipe(*models))) for models in ((one,), (one, two)))
    assert 0 < alone < both
