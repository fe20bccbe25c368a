"""Laying adapters on models: which tensor is meant, how it is stored, and what does not fit."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from mergery.checkpoint import Adapter, Checkpoint
from mergery.checkpoint.adapter import LowRank
from mergery.errors import CheckpointError

RNG = np.random.default_rng(12)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def pair(module: str, outputs: int = 11, inputs: int = 5, rank: int = 2) -> dict[str, np.ndarray]:
    return {f"{module}.lora_A.weight": normal(rank, inputs), f"{module}.lora_B.weight": normal(outputs, rank)}


def scale(adapter: Adapter, model: Checkpoint, name: str) -> float:
    (step,) = adapter.updates(model)[name].steps
    assert isinstance(step, LowRank)
    return step.scale


# scales


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, 3 / 2),
        ({"lora_alpha": -3}, -3 / 2),
        ({"alpha_pattern": {"q": 8}}, 8 / 2),
        ({"alpha_pattern": {"layers.1.attn.q": 8, "attn.q": 5}}, 5 / 2),
        ({"alpha_pattern": {"^model.layers.0.attn.q": 7}}, 7 / 2),
        ({"alpha_pattern": {r".*\.0\.attn\.[qk]": 6}}, 6 / 2),
        ({"alpha_pattern": {"k|q": 9, "q": 1}}, 9 / 2),
        ({"alpha_pattern": {"n.q": 4, "attn": 4, "0.attn": 4}}, 3 / 2),
        ({"r": 64, "rank_pattern": {"attn.q": 2}, "use_rslora": True}, 3 / 2**0.5),
    ],
)
def test_patterns_match_the_end_of_a_name_from_a_dot_on(make_base, make_adapter, settings, expected):
    model = make_base({"model.layers.0.attn.q.weight": normal(11, 5)})
    adapter = make_adapter(pair("model.layers.0.attn.q"), **settings)
    assert scale(adapter, model, "model.layers.0.attn.q.weight") == pytest.approx(expected, rel=1e-15)


def test_patterns_that_cannot_be_right(make_base, make_adapter):
    model = make_base({"model.layers.0.q.weight": normal(11, 5)})
    with pytest.raises(CheckpointError, match=r"model\.layers\.0\.q has rank 4 by r and rank_pattern"):
        make_adapter(pair("model.layers.0.q"), rank_pattern={"q": 4}).check(model)
    with pytest.raises(CheckpointError, match=r"'q\(' is no regular expression"):
        make_adapter(pair("model.layers.0.q"), name="other", alpha_pattern={"q(": 4}).check(model)


# which tensor is meant


@pytest.mark.parametrize(
    ("module", "tensors", "meant"),
    [
        (
            "transformer.h.3.attn",
            ["h.3.attn.weight", "h.13.attn.weight", "h.3.attn.c.weight"],
            "h.3.attn.weight",
        ),
        ("layers.1.q", ["model.layers.1.q.weight", "model.layers.0.q.weight"], "model.layers.1.q.weight"),
        (
            "model.language_model.layers.0.q",
            ["language_model.model.layers.0.q.weight", "vision_tower.encoder.layers.0.q.weight"],
            "language_model.model.layers.0.q.weight",
        ),
        (
            "model.visual.blocks.0.q",
            ["visual.blocks.0.q.weight", "model.layers.0.q.weight"],
            "visual.blocks.0.q.weight",
        ),
        (
            "lm_head",
            ["language_model.lm_head.weight", "model.layers.0.q.weight"],
            "language_model.lm_head.weight",
        ),
        ("model.layers.0.q", ["encoder.layers.0.q.weight", "decoder.layers.0.q.weight"], None),
        ("model.layers.4.q", ["model.layers.0.q.weight"], None),
        ("model.layers.0.k", ["model.layers.0.q.weight"], None),
    ],
)
def test_prefixes_come_go_and_change_places(make_base, make_adapter, module, tensors, meant):
    model = make_base({name: normal(11, 5) for name in tensors})
    adapter = make_adapter(pair(module))
    if meant is None:
        with pytest.raises(CheckpointError, match="has no tensor that it fits") as problem:
            adapter.check(model)
        assert str(model.directory) in problem.value.fix
        return
    assert list(adapter.updates(model)) == [meant]
    assert adapter.notes(model) == (f"{adapter.ref}: {module}.weight is taken for {meant}",)


def test_an_adapter_without_pefts_prefix(make_base, make_adapter):
    model = make_base({"layers.0.q.weight": normal(11, 5)})
    assert list(make_adapter(pair("layers.0.q"), prefix="").updates(model)) == ["layers.0.q.weight"]


def test_two_parts_for_one_tensor(make_base, make_adapter):
    model = make_base({"layers.0.q.weight": normal(11, 5)})
    with pytest.raises(CheckpointError, match=r"both mean layers\.0\.q\.weight"):
        make_adapter(pair("layers.0.q") | pair("model.layers.0.q")).check(model)


@pytest.mark.parametrize(
    ("weights", "flag", "transposed"),
    [
        ({"q.weight": (6, 6)}, True, False),
        ({"q.weight": (6, 6), "q.bias": (6,)}, True, True),
        ({"q.weight": (6, 6), "q.bias": (6,)}, False, False),
        ({"q.weight": (6, 6), "q.bias": (6,), "c.weight": (6, 18), "c.bias": (18,)}, False, True),
        ({"q.weight": (6, 6), "q.bias": (6,), "c.weight": (18, 6), "c.bias": (18,)}, True, False),
    ],
)
def test_squares_are_read_as_their_layer_is(make_base, make_adapter, weights, flag, transposed):
    model = make_base({f"h.0.{name}": normal(*shape) for name, shape in weights.items()})
    updates = make_adapter(pair("h.0.q", 6, 6), fan_in_fan_out=flag).updates(model)
    assert [step.transposed for step in updates["h.0.q.weight"].steps] == [transposed]


@pytest.mark.parametrize(
    ("base", "tensors", "message"),
    [
        ({"q.weight": normal(11, 6)}, pair("q"), "cannot be put on q.weight [11, 6]"),
        ({"q.weight": normal(11, 5, 1)}, pair("q"), "cannot be put on q.weight [11, 5, 1]"),
        ({"q.weight": torch.ones(11, 5, dtype=torch.uint8)}, pair("q"), "which is U8"),
        ({"norm.weight": normal(5)}, {"norm.weight": normal(6)}, "cannot be put on norm.weight [5]"),
        (
            {"embed.weight": normal(9, 4)},
            {"embed.weight": normal(10, 4)},
            "resize the model's embeddings first",
        ),
        ({"q.weight": normal(11, 5)}, pair("q") | {"q.lora_B.bias": normal(11)}, "no tensor that it fits"),
        (
            {"q.weight": normal(11, 5), "q.bias": normal(12)},
            pair("q") | {"q.lora_B.bias": normal(11)},
            "cannot be put on q.bias [12]",
        ),
        ({"q.weight": normal(11, 5)}, pair("q") | pair("q.base_layer"), "is for a parameter of q"),
        ({"q.stack": normal(3, 8, 10)}, pair("q", 8, 10, 7), "cannot be put on q.stack [3, 8, 10]"),
        (
            {"q.stack": normal(2, 11, 5)},
            pair("q") | {"q.lora_B.bias": normal(11)},
            "q.lora_B.bias [11] cannot be put on q.stack",
        ),
    ],
)
def test_parts_that_do_not_fit(make_base, make_adapter, base, tensors, message):
    with pytest.raises(CheckpointError) as problem:
        make_adapter(tensors, target_parameters=["q.stack"]).check(make_base(base))
    assert message in str(problem.value)


# parameters that are no module's weight


def experts(layer: int, **shapes: tuple[int, ...]) -> dict[str, np.ndarray]:
    return {f"layers.{layer}.experts.{name}": normal(*shape) for name, shape in shapes.items()}


def test_nested_parameters_are_told_apart_by_their_shapes(make_base, make_adapter):
    model = make_base(experts(0, down_proj=(3, 8, 10), gate_up_proj=(3, 20, 8)))
    parts = pair("layers.0.experts.base_layer", 20, 8, 2 * 3) | pair("layers.0.experts", 8, 10, 4 * 3)
    settings = {
        "target_parameters": ["experts.gate_up_proj", "experts.down_proj"],
        "rank_pattern": {"experts.down_proj": 4},
    }
    updates = make_adapter(parts, **settings).updates(model)
    found = {name: update.steps[0] for name, update in updates.items()}
    assert found["layers.0.experts.gate_up_proj"].b.shape == (20, 6)
    assert found["layers.0.experts.gate_up_proj"].scale == 3 / 2
    assert found["layers.0.experts.down_proj"].a.shape == (12, 10)
    assert found["layers.0.experts.down_proj"].scale == 3 / 4
    assert not any(step.transposed for step in found.values())


def test_square_experts_are_stored_as_their_sisters_are(make_base, make_adapter):
    model = make_base(experts(0, down_proj=(3, 8, 8), gate_up_proj=(3, 8, 16)))
    parts = pair("layers.0.experts.base_layer", 16, 8, 6) | pair("layers.0.experts", 8, 8, 6)
    settings = {"target_parameters": ["experts.gate_up_proj", "experts.down_proj"]}
    updates = make_adapter(parts, **settings).updates(model)
    assert [update.steps[0].transposed for update in updates.values()] == [True, True]
    alone = make_adapter(
        pair("layers.0.experts", 8, 8, 6), name="alone", target_parameters=["experts.down_proj"]
    )
    with pytest.raises(CheckpointError, match="in more than one way"):
        alone.check(model)


def test_a_stack_called_weight(make_base, make_adapter):
    model = make_base({"layers.0.input_linear.weight": normal(3, 20, 8)})
    adapter = make_adapter(pair("layers.0.input_linear", 20, 8, 6), target_parameters=["input_linear.weight"])
    (step,) = adapter.updates(model)["layers.0.input_linear.weight"].steps
    assert (step.experts, step.transposed, step.scale) == (3, False, 3 / 2)


def test_experts_that_are_stored_in_another_way(make_base, make_adapter):
    single = make_base({f"layers.0.experts.{n}.down_proj.weight": normal(8, 10) for n in range(3)})
    stacked = make_adapter(pair("layers.0.experts", 8, 10, 6), target_parameters=["experts.down_proj"])
    with pytest.raises(CheckpointError, match="save_original_format=False"):
        stacked.check(single)
    adapter = make_adapter(pair("layers.0.experts.1.down_proj", 8, 10), name="single")
    assert list(adapter.updates(single)) == ["layers.0.experts.1.down_proj.weight"]
    with pytest.raises(CheckpointError, match="save_original_format=True"):
        adapter.check(make_base(experts(0, down_proj=(3, 8, 10)), name="other"))


# tensors, biases, tokens


def test_copies_that_peft_leaves_beside_a_saved_module(make_base, make_adapter):
    model = make_base({"head.weight": normal(9, 4), "head.bias": normal(9)})
    saved = {"head.weight": normal(9, 4), "head.bias": normal(9)}
    copies = {"head.original_module.weight": normal(9, 4), "head.modules_to_save.bias": normal(9)}
    adapter = make_adapter(saved | copies)
    assert list(adapter.updates(model)) == list(model.tensors)
    assert adapter.notes(model) == (f"{adapter.ref}: replaces 2 tensors as a whole, head.bias among them",)


@pytest.mark.parametrize(
    ("indices", "rows"), [([3, 1], (3, 1)), ({"embed": [2, 0], "head": [1]}, (2, 0)), ({"other": [1]}, None)]
)
def test_rows_of_tokens_are_found_by_their_module(make_base, make_adapter, indices, rows):
    model = make_base({"model.embed.weight": normal(9, 4)})
    values = {"model.embed.token_adapter.trainable_tokens_delta": normal(2, 4)}
    adapter = make_adapter(values, trainable_token_indices=indices)
    if rows is None:
        with pytest.raises(CheckpointError, match="is not the 0 rows of trainable_token_indices"):
            adapter.check(model)
    else:
        (step,) = adapter.updates(model)["model.embed.weight"].steps
        assert step.rows == rows


@pytest.mark.parametrize(("indices", "width"), [([3], 4), ([3, 9], 4), ([3, 1], 5)])
def test_rows_that_do_not_fit(make_base, make_adapter, indices, width):
    values = {"embed.token_adapter.trainable_tokens_delta": normal(2, width)}
    with pytest.raises(CheckpointError, match="rows of trainable_token_indices"):
        make_adapter(values, trainable_token_indices=indices).check(make_base({"embed.weight": normal(9, 4)}))


def tied(kind: str) -> tuple[dict[str, np.ndarray], dict[str, object]]:
    values, a, b = normal(9, 4), normal(2, 9), normal(4, 2)
    if kind == "saved":
        return {"model.embed_tokens.weight": values, "lm_head.weight": values}, {}
    if kind == "tokens":
        ends = ("model.embed_tokens", "lm_head")
        rows = {f"{end}.token_adapter.trainable_tokens_delta": values[:2] for end in ends}
        return rows, {"trainable_token_indices": [5, 3]}
    embeddings = {"model.embed_tokens.lora_embedding_A": a, "model.embed_tokens.lora_embedding_B": b}
    return embeddings | {"lm_head.lora_A.weight": b.T.copy(), "lm_head.lora_B.weight": a.T.copy()}, {}


@pytest.mark.parametrize("kind", ["saved", "tokens", "product"])
def test_a_tied_head_may_say_what_the_embeddings_say(make_base, make_adapter, kind):
    model = make_base({"model.embed_tokens.weight": normal(9, 4)}, tie_word_embeddings=True)
    tensors, settings = tied(kind)
    assert list(make_adapter(tensors, **settings).updates(model)) == ["model.embed_tokens.weight"]
    head = next(name for name in tensors if name.startswith("lm_head"))
    tensors[head] = tensors[head] + 1
    with pytest.raises(CheckpointError, match=r"changes a head, and .* has none of its own"):
        make_adapter(tensors, name="other", **settings).check(model)
    alone = {name: value for name, value in tensors.items() if name.startswith("lm_head")}
    with pytest.raises(CheckpointError, match="changes a head"):
        make_adapter(alone, name="alone", **settings).check(model)
    embeddings = make_base({"model.embed_tokens.weight": normal(9, 4)}, "mixed")
    mixed = alone | tied("product" if kind == "saved" else "saved")[0]
    mixed = {name: value for name, value in mixed.items() if name in alone or not name.startswith("lm_head")}
    with pytest.raises(CheckpointError, match="changes a head"):
        make_adapter(mixed, name="both", **settings).check(embeddings)


def test_what_is_worth_knowing(make_base, write_adapter):
    model = make_base({"layers.0.q.weight": normal(11, 5), "layers.1.q.weight": normal(11, 5)})
    tensors = pair("model.layers.0.q") | pair("model.layers.1.q")
    folder = write_adapter(tensors, base_model_name_or_path="org/name", novelty=3, peft_version="0.21.2")
    assert Adapter.open(folder).notes(model) == (
        f"{folder}: made for org/name, put on {model.directory}",
        f"{folder}: model.layers.0.q.weight is taken for layers.0.q.weight, and 1 more in the same way",
        f"{folder}: novelty of adapter_config.json is not known, and not used",
    )
    file = folder / "adapter_config.json"
    settings = json.loads(file.read_text())
    for base, note in {None: "does not say which model", str(model.directory): "is taken for"}.items():
        file.write_text(json.dumps(settings | {"base_model_name_or_path": base}))
        assert note in Adapter.open(folder).notes(model)[0]
    file.write_text(
        json.dumps(settings | {"base_model_name_or_path": str(model.directory), "revision": "abc"})
    )
    assert f"made for {model.directory}@abc" in Adapter.open(folder).notes(model)[0]
