"""Opening adapters: their settings, and a place for every tensor."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mergery.checkpoint import Adapter, ModelRef
from mergery.errors import CheckpointError

RNG = np.random.default_rng(11)


def normal(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def pair(module: str, outputs: int = 11, inputs: int = 5, rank: int = 2) -> dict[str, np.ndarray]:
    return {f"{module}.lora_A.weight": normal(rank, inputs), f"{module}.lora_B.weight": normal(outputs, rank)}


def test_only_headers_are_read(write_adapter):
    folder = write_adapter(pair("q"))
    adapter = Adapter.open(ModelRef(str(folder)))
    assert (adapter.directory, adapter.file) == (folder, folder / "adapter_model.safetensors")
    assert adapter.bytes == 4 * (10 + 22)
    assert list(adapter.tensors) == ["base_model.model.q.lora_A.weight", "base_model.model.q.lora_B.weight"]


def test_directories_that_hold_no_adapter(tmp_path, write_adapter, make_base):
    with pytest.raises(CheckpointError, match=r"it has no adapter_config\.json"):
        Adapter.open(make_base({"q.weight": normal(2, 2)}).directory)
    with pytest.raises(CheckpointError, match="does not exist"):
        Adapter.open(tmp_path / "nowhere")
    folder = write_adapter(pair("q"))
    weights = folder / "adapter_model.safetensors"
    weights.rename(folder / "adapter_model.bin")
    with pytest.raises(CheckpointError, match=r"pickle \(adapter_model\.bin\)") as problem:
        Adapter.open(folder)
    assert "save_pretrained" in problem.value.fix
    (folder / "adapter_model.bin").unlink()
    with pytest.raises(CheckpointError, match=r"it has no adapter_model\.safetensors"):
        Adapter.open(folder)


@pytest.mark.parametrize(
    ("settings", "message", "fix"),
    [
        ({"peft_type": "IA3"}, "type IA3, not LORA", "merge_and_unload"),
        ({"peft_type": None}, "no peft_type", "PEFT adapter"),
        ({"use_qalora": True}, "use_qalora: the adapter pools its inputs", "merge_and_unload"),
        ({"alora_invocation_tokens": [5]}, "alora_invocation_tokens", "merge_and_unload"),
        ({"layer_replication": [[0, 2], [1, 3]]}, "layer_replication", "merge_and_unload"),
        ({"init_lora_weights": "pissa_niter_16"}, "pissa_niter_16 changed the base", "convert it with peft"),
        (
            {"init_lora_weights": "olora"},
            "olora changed the base",
            "path_initial_model_for_weight_conversion",
        ),
        ({"init_lora_weights": "corda"}, "corda changed the base", "convert it"),
        ({"init_lora_weights": "loftq"}, "loftq changed the base", "convert it"),
        ({"init_lora_weights": "newest"}, "newest is not known", "merge_and_unload"),
        ({"r": "8"}, "r: expected a number, got '8'", "correct it"),
        ({"lora_alpha": True}, "lora_alpha: expected a number", "correct it"),
        ({"use_rslora": "yes"}, "use_rslora: expected true or false", "correct it"),
        ({"alpha_pattern": {"q": "1"}}, "alpha_pattern: expected numbers by name", "correct it"),
        ({"target_parameters": "experts"}, "target_parameters: expected a list", "correct it"),
        ({"trainable_token_indices": [1, 1]}, "expected lists of different rows", "correct it"),
        ({"trainable_token_indices": {"embed": [-1]}}, "expected lists of different rows", "correct it"),
    ],
)
def test_settings_that_cannot_be_used(write_adapter, settings, message, fix):
    folder = write_adapter(pair("q"), **settings)
    with pytest.raises(CheckpointError) as problem:
        Adapter.open(folder)
    assert message in problem.value.message
    assert str(folder / "adapter_config.json") in problem.value.message
    assert fix in problem.value.fix


@pytest.mark.parametrize("start", [True, False, None, "gaussian", "eva", "orthogonal", "mica"])
def test_initialisations_that_leave_the_base_alone(make_adapter, start):
    make_adapter(pair("q"), init_lora_weights=start)


@pytest.mark.parametrize(
    ("tensors", "settings", "message"),
    [
        ({"q.lora_E": normal(2, 1)}, {}, "q.lora_E is nothing that is known"),
        ({"q.lora_A.default.weight": normal(2, 5)}, {}, "q.lora_A.default.weight is nothing that is known"),
        ({"q.token_adapter.else": normal(2, 5)}, {}, "is nothing that is known"),
        ({"q.lora_A.weight": normal(2, 5)}, {}, "q.lora_A.weight lacks the other matrix"),
        ({"q.lora_embedding_B": normal(2, 5)}, {}, "q.lora_embedding_B lacks the other matrix"),
        (pair("q") | {"q.lora_embedding_A": normal(2, 5)}, {}, "lacks the other matrix"),
        (
            pair("q") | {"q.lora_embedding_A": normal(2, 5), "q.lora_embedding_B": normal(3, 2)},
            {},
            "q.lora_A.weight lacks a module of its own",
        ),
        (
            pair("q") | {"q.lora_magnitude_vector": normal(11), "q.lora_magnitude_vector.weight": normal(11)},
            {"use_dora": True},
            "lacks a place of its own",
        ),
        (pair("q") | {"q.lora_magnitude_vector": normal(11)}, {}, "lacks a use_dora"),
        (pair("q"), {"use_dora": True}, "lacks the lora_magnitude_vector"),
        (pair("q") | {"q.lora_magnitude_vector": normal(5)}, {"use_dora": True}, "5 elements for 11 outputs"),
        (pair("q") | {"q.lora_B.bias": normal(12)}, {}, "12 elements for 11 outputs"),
        ({"q.lora_A.weight": normal(2, 5), "q.lora_B.weight": normal(11, 3)}, {}, "cannot be multiplied"),
        ({"q.lora_A.weight": normal(10), "q.lora_B.weight": normal(22)}, {}, "cannot be multiplied"),
        (
            {"q.lora_A.weight": normal(4, 5, 3), "q.lora_B.weight": normal(6, 2, 1)},
            {},
            "grouped convolutions",
        ),
        ({"q.lora_A.weight": normal(0), "q.lora_B.weight": normal(11, 2)}, {}, "shape [0]"),
        ({"norm.weight": torch.arange(3)}, {}, "norm.weight has dtype I64"),
        ({"head.original_module.weight": normal(3, 5)}, {}, "lacks the tensor that it is a copy of"),
        ({}, {}, "it holds no tensor"),
    ],
)
def test_every_tensor_is_accounted_for(write_adapter, tensors, settings, message):
    folder = write_adapter(tensors, **settings)
    with pytest.raises(CheckpointError) as problem:
        Adapter.open(folder)
    assert message in str(problem.value)
    assert str(folder / "adapter_model.safetensors") in problem.value.message
