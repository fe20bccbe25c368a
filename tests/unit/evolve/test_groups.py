from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergery.checkpoint import layer_name
from mergery.checkpoint.architecture import role
from mergery.evolve.groups import GROUPINGS, coarser, cover, depth_of, group_names
from mergery.recipe.settings import evaluate, parse_setting


class Named:
    def __init__(self, name):
        found = layer_name(name)
        self.name, self.layer, self.role = name, found.index if found else None, role(name)


def llama(layers, head=True):
    inside = ["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj"]
    inside += ["mlp.gate_proj", "mlp.up_proj", "mlp.down_proj", "input_layernorm", "post_attention_layernorm"]
    names = [f"model.layers.{layer}.{part}.weight" for layer in range(layers) for part in inside]
    return [
        "model.embed_tokens.weight",
        *names,
        "model.norm.weight",
        *(["lm_head.weight"] if head else []),
    ]


def gpt2(layers):
    inside = ["ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj"]
    names = [f"h.{i}.{part}.{end}" for i in range(layers) for part in inside for end in ("weight", "bias")]
    return ["wte.weight", "wpe.weight", *names, "ln_f.weight", "ln_f.bias"]


def gemma(layers):
    extra = [
        "self_attn.q_norm",
        "self_attn.k_norm",
        "pre_feedforward_layernorm",
        "post_feedforward_layernorm",
    ]
    more = [f"model.layers.{layer}.{part}.weight" for layer in range(layers) for part in extra]
    return [*llama(layers, head=False), *more]


def tricky():
    """Names that are parts of other groups' names."""
    return [
        "lm_head.weight",
        "tower.lm_head.weight",
        "model.layers.1.mlp.weight",
        "model.layers.1.mlp.weight_scale",
        "encoder.model.layers.1.mlp.weight",
        "model.layers.11.self_attn.weight",
        "model.layers.1.self_attn.weight",
        "norm",
        "a.norm.b",
    ]


FAMILIES = {
    "llama-3": llama(3),
    "llama-12": llama(12),
    "tied": llama(2, head=False),
    "one-layer": llama(1),
    "gpt2-11": gpt2(11),
    "gemma-12": gemma(12),
    "tricky": tricky(),
}


def found_by(filters, name):
    """What mergekit's rule finds: the first filter that the name holds."""
    return next((group for pattern, group in filters if pattern in name), None)


@pytest.mark.parametrize("by", GROUPINGS)
@pytest.mark.parametrize("family", FAMILIES)
def test_filters_find_every_tensors_group(family, by):
    groups = group_names([Named(name) for name in FAMILIES[family]], by)
    assert sorted(name for names in groups.values() for name in names) == sorted(FAMILIES[family])
    filters = cover(groups)
    for group, names in groups.items():
        for name in names:
            assert found_by(filters, name) == group
    # and so our own engine reads them
    setting = parse_setting([{"filter": f, "value": list(groups).index(g)} for f, g in filters], where="")
    for index, names in enumerate(groups.values()):
        assert all(evaluate(setting, name, 0.0) == index for name in names)


@pytest.mark.parametrize("by", GROUPINGS)
def test_the_order_of_the_tensors_changes_nothing(by):
    tensors = [Named(name) for name in llama(12)]
    assert group_names(tensors, by) == group_names(tensors[::-1], by)
    assert cover(group_names(tensors, by)) == cover(group_names(tensors[::-1], by))


def test_groups_go_from_the_bottom_of_the_model_to_its_top():
    tensors = [Named(name) for name in llama(11)]
    assert list(group_names(tensors, "role")) == ["embedding", "attention", "mlp", "norm", "head"]
    layers = [f"layers.{index}" for index in range(11)]
    assert list(group_names(tensors, "layer")) == ["embedding", *layers, "norm", "head"]
    blocks = [f"{layer}.{role}" for layer in layers for role in ("attention", "mlp")]
    assert list(group_names(tensors, "block")) == ["embedding", *blocks, "norm", "head"]
    assert list(group_names(tensors, "model")) == ["model"]


def test_filters_are_few_and_readable():
    tensors = [Named(name) for name in llama(2, head=False)]
    assert cover(group_names(tensors, "block")) == (
        ("model.embed_tokens.", "embedding"),
        ("model.layers.0.self_attn.", "layers.0.attention"),
        ("model.layers.0.mlp.", "layers.0.mlp"),
        ("model.layers.1.self_attn.", "layers.1.attention"),
        ("model.layers.1.mlp.", "layers.1.mlp"),
        ("norm", "norm"),
    )
    assert cover(group_names([Named(name) for name in gpt2(2)], "role")) == (
        ("wpe.", "embedding"),
        ("wte.", "embedding"),
        ("attn", "attention"),
        ("mlp", "mlp"),
        ("ln_", "norm"),
    )


def test_coarser_groups():
    for group, by, expected in [
        ("model", "model", ("model", "model", "model")),
        ("attention", "role", ("model", "attention", "attention")),
        ("norm", "block", ("model", "norm", "norm")),
        ("layers.10.mlp", "block", ("model", "mlp", "layers.10.mlp")),
        ("layers.7", "layer", ("model", "third 1", "layers.7")),
    ]:
        assert tuple(coarser(group, by, level, 12) for level in range(3)) == expected


@pytest.mark.parametrize(
    ("layers", "sizes"), [(1, [1]), (2, [1, 1]), (3, [1, 1, 1]), (8, [3, 3, 2]), (12, [4] * 3)]
)
def test_thirds_are_as_equal_as_can_be(layers, sizes):
    found = [coarser(f"layers.{layer}", "layer", 1, layers) for layer in range(layers)]
    assert found == sorted(found)
    assert sorted([found.count(third) for third in dict.fromkeys(found)], reverse=True) == sizes


def test_depths_of_groups():
    assert [depth_of(f"layers.{layer}.mlp", 4) for layer in range(4)] == [0.125, 0.375, 0.625, 0.875]
    assert [depth_of(f"layers.{layer}", 2) for layer in range(2)] == [0.25, 0.75]
    assert [depth_of(group, 4) for group in ("embedding", "head", "norm", "attention", "model")] == [
        0.0,
        1.0,
        1.0,
        0.5,
        0.5,
    ]


names = st.lists(
    st.lists(st.sampled_from(["a", "ab", "b", "a_b", "1", "11"]), min_size=1, max_size=4).map(".".join),
    min_size=1,
    max_size=12,
    unique=True,
)


@given(names, st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_any_names_in_any_groups(names, dice):
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(dice.choice("xyz"), []).append(name)
    filters = cover(groups)
    assert all(found_by(filters, name) == group for group, members in groups.items() for name in members)
