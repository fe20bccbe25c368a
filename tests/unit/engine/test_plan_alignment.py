"""Models whose names begin otherwise, or whose experts are stored otherwise, are matched or refused."""

from __future__ import annotations

import pytest
import torch
import transformers as hf
from safetensors.torch import load_file, save_file

from mergery.checkpoint.safetensors import read_tensor
from mergery.engine import make_plan
from mergery.engine.operand import Concatenated
from mergery.errors import CheckpointError
from mergery.recipe import Recipe


def recipe(method: str, *models, base=None, **rest) -> Recipe:
    data = {"merge_method": method, "models": [{"model": str(model)} for model in models]}
    return Recipe.from_dict(data | ({"base_model": str(base)} if base else {}) | rest)


def inside(prefix: str, layers: int, *rests: str) -> dict[str, tuple[int, ...]]:
    return {f"{prefix}{layer}.{rest}.weight": (4, 4) for layer in range(layers) for rest in rests}


LAYERS = ("self_attn.q_proj", "mlp.up_proj", "mlp.down_proj")
BARE = {"embed_tokens.weight": (6, 4), "norm.weight": (4,)} | inside("layers.", 2, *LAYERS)
FULL = {f"model.{name}": shape for name, shape in BARE.items()}
VISION = {"vision_tower.norm.weight": (4,)} | inside("vision_tower.layers.", 3, "attn.qkv", "mlp.fc1")


def sources(plan, name: str) -> list[tuple[str, str]]:
    job = next(job for job in plan.jobs if job.name == name)
    return [(info.file.parent.name, info.name) for info in job.sources]


def test_a_prefix_that_one_model_lacks(write_model):
    full, bare = write_model("full", FULL), write_model("bare", BARE)
    plan = make_plan(recipe("linear", full, bare))
    assert [job.name for job in plan.jobs] == sorted(FULL)
    name = "layers.1.mlp.up_proj.weight"
    assert sources(plan, f"model.{name}") == [("full", f"model.{name}"), ("bare", name)]
    (note,) = plan.notes
    assert f"names of {bare} begin otherwise than those of {full}" in note
    assert "(nothing) for model." in note
    back = make_plan(recipe("linear", bare, full))
    assert [job.name for job in back.jobs] == sorted(BARE)
    assert sources(back, "norm.weight") == [("bare", "norm.weight"), ("full", "model.norm.weight")]


def test_a_deeper_model_without_the_prefix_gives_layers(write_model):
    full = write_model("full", FULL, num_hidden_layers=2)
    bare = write_model("bare", BARE | inside("layers.", 5, *LAYERS), num_hidden_layers=5)
    parts = [
        {"sources": [{"model": str(full), "layer_range": [0, 2]}]},
        {"sources": [{"model": str(bare), "layer_range": [4, 5]}]},
    ]
    plan = make_plan(Recipe.from_dict({"merge_method": "passthrough", "slices": parts}))
    assert sources(plan, "model.layers.2.mlp.up_proj.weight") == [("bare", "layers.4.mlp.up_proj.weight")]
    assert plan.config["num_hidden_layers"] == 3


def test_two_stacks_that_could_both_be_meant_are_not_guessed(write_model):
    twins = inside("left.layers.", 2, *LAYERS) | inside("right.layers.", 2, *LAYERS)
    one, two = write_model("twins", twins), write_model("bare", inside("layers.", 2, *LAYERS))
    with pytest.raises(CheckpointError, match=r"bare: it has no tensor left\.layers\.0"):
        make_plan(recipe("linear", one, two))


def test_a_language_model_finds_its_place_in_a_vision_language_model(write_model):
    inner = {f"language_model.{name}": shape for name, shape in FULL.items()}
    vlm, llm = write_model("vlm", VISION | inner), write_model("llm", FULL)
    plan = make_plan(recipe("linear", vlm, llm, unmatched=[{"filter": "vision_tower", "action": "copy"}]))
    name = "model.layers.1.mlp.up_proj.weight"
    assert sources(plan, f"language_model.{name}") == [("vlm", f"language_model.{name}"), ("llm", name)]
    assert sources(plan, "vision_tower.norm.weight") == [("vlm", "vision_tower.norm.weight")]


def test_vision_language_models_saved_by_old_and_new_transformers(tmp_path):
    text = {
        "model_type": "llama",
        "vocab_size": 40,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
    }
    vision = {"model_type": "clip_vision_model", "projection_dim": 16, "image_size": 16, "patch_size": 8}
    vision |= {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = hf.LlavaConfig(vision_config=vision, text_config=text, image_token_index=39)
    model = hf.LlavaForConditionalGeneration(config)
    model.save_pretrained(tmp_path / "old")
    model.save_pretrained(tmp_path / "new", save_original_format=False)
    old, new = (set(load_file(tmp_path / name / "model.safetensors")) for name in ("old", "new"))
    assert not old & new
    plan = make_plan(recipe("linear", tmp_path / "old", tmp_path / "new"))
    assert {job.name for job in plan.jobs} == old
    for job in plan.jobs:
        first, second = job.inputs
        assert first.name in old
        assert second.name in new
        assert torch.equal(read_tensor(first), read_tensor(second))


EXPERTS = {"gate_proj": (3, 5), "up_proj": (3, 5), "down_proj": (5, 3)}
W = {"gate_proj": "w1", "up_proj": "w3", "down_proj": "w2"}


def experts(directory, block: str, layout: str, values: dict[tuple[str, int], torch.Tensor]):
    """A model of one mixture, in one of its three layouts."""
    head = f"model.layers.0.{block}.experts"
    tensors = {f"model.layers.0.{block}.gate.weight": torch.zeros(2, 5)}
    tensors["model.layers.0.self_attn.q_proj.weight"] = torch.zeros(5, 5)
    if layout == "fused":
        both = [torch.cat([values["gate_proj", e], values["up_proj", e]]) for e in range(2)]
        tensors[f"{head}.gate_up_proj"] = torch.stack(both)
        tensors[f"{head}.down_proj"] = torch.stack([values["down_proj", e] for e in range(2)])
    else:
        for (matrix, expert), value in values.items():
            tensors[f"{head}.{expert}.{W[matrix] if layout == 'w' else matrix}.weight"] = value
    directory.mkdir()
    save_file(tensors, directory / "model.safetensors", {"format": "pt"})
    (directory / "config.json").write_text("{}")
    return directory


def value(operand) -> torch.Tensor:
    parts = operand.parts if isinstance(operand, Concatenated) else (operand,)
    return torch.cat([read_tensor(part).flatten() for part in parts]).reshape(operand.shape)


@pytest.mark.parametrize("first", ["fused", "w", "proj"])
@pytest.mark.parametrize("second", ["fused", "w", "proj"])
def test_experts_in_all_layouts_are_the_same_numbers(tmp_path, first, second):
    torch.manual_seed(0)
    values = {(m, e): torch.randn(shape) for e in range(2) for m, shape in EXPERTS.items()}
    one = experts(tmp_path / "one", "mlp", first, values)
    two = experts(tmp_path / "two", "block_sparse_moe" if second == "w" else "mlp", second, values)
    plan = make_plan(recipe("linear", one, two))
    assert {job.name for job in plan.jobs} == set(load_file(one / "model.safetensors"))
    for job in plan.jobs:
        assert job.inputs[0].shape == job.inputs[1].shape
        assert torch.equal(value(job.inputs[0]), value(job.inputs[1]))
    size = (one / "model.safetensors").stat().st_size
    assert plan.bytes_read == 2 * plan.bytes_written < 2 * size


def test_experts_that_are_not_all_there_or_of_other_shapes_are_errors(tmp_path):
    torch.manual_seed(0)
    values = {(m, e): torch.randn(shape) for e in range(2) for m, shape in EXPERTS.items()}
    fused = experts(tmp_path / "fused", "mlp", "fused", values)
    lacking = {key: value for key, value in values.items() if key != ("up_proj", 1)}
    with pytest.raises(CheckpointError, match=r"it has no tensor model\.layers\.0\.mlp\.experts"):
        make_plan(recipe("linear", fused, experts(tmp_path / "lacking", "mlp", "proj", lacking)))
    mixed = {key: value.half() if key[1] else value for key, value in values.items()}
    with pytest.raises(CheckpointError, match=r"experts\.1\.gate_proj\.weight is F16 and .* F32"):
        make_plan(recipe("linear", fused, experts(tmp_path / "mixed", "mlp", "proj", mixed)))
    wide = {
        key: torch.cat([value, value], 1 if key[0] == "down_proj" else 0) for key, value in values.items()
    }
    with pytest.raises(CheckpointError, match=r"shape \[2, 6, 5\] in .*, \[2, 12, 5\] in"):
        make_plan(recipe("linear", fused, experts(tmp_path / "wide", "mlp", "proj", wide)))


@pytest.mark.parametrize("order", ["bare first", "bare last"])
def test_experts_and_prefixes_may_differ_at_once(tmp_path, order):
    torch.manual_seed(0)
    values = {(m, e): torch.randn(shape) for e in range(2) for m, shape in EXPERTS.items()}
    fused = experts(tmp_path / "fused", "mlp", "fused", values)
    bare = experts(tmp_path / "bare", "block_sparse_moe", "w", values)
    shorter = {
        name.removeprefix("model."): tensor for name, tensor in load_file(bare / "model.safetensors").items()
    }
    save_file(shorter, bare / "model.safetensors", {"format": "pt"})
    plan = make_plan(recipe("linear", *((bare, fused) if order == "bare first" else (fused, bare))))
    assert all(torch.equal(value(job.inputs[0]), value(job.inputs[1])) for job in plan.jobs)
    assert len(plan.notes) == 2
