"""Model directories: opened by their headers, refused when they are not whole or not safe."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from mergery.checkpoint import Checkpoint, layer_name
from mergery.checkpoint.architecture import role
from mergery.checkpoint.safetensors import ShardLayout, TensorInfo, read_header, read_tensor
from mergery.errors import CheckpointError

TENSORS = {
    "float": torch.arange(6, dtype=torch.float32).reshape(2, 3),
    "half": torch.tensor(1.5, dtype=torch.float16),
    "brain": torch.randn(5, generator=torch.Generator().manual_seed(0)).bfloat16(),
    "whole": torch.tensor([1, -2, 3]),
    "switch": torch.tensor([True, False]),
    "empty": torch.zeros(0, 4),
}


def test_headers_and_tensors_are_those_of_the_safetensors_library(tmp_path):
    file = tmp_path / "a.safetensors"
    save_file(TENSORS, file)
    infos = {info.name: info for info in read_header(file)}
    assert infos.keys() == TENSORS.keys()
    for name, info in infos.items():
        assert info.shape == tuple(TENSORS[name].shape)
        assert torch.equal(read_tensor(info), TENSORS[name])


def test_a_laid_out_file_is_read_by_the_safetensors_library(tmp_path):
    file = tmp_path / "a.safetensors"
    names = {"float": "F32", "half": "F16", "brain": "BF16", "whole": "I64", "switch": "BOOL", "empty": "F32"}
    infos = [TensorInfo(name, dtype, tuple(TENSORS[name].shape), file, 0) for name, dtype in names.items()]
    layout = ShardLayout.of(file.name, infos, {"format": "pt"})
    data = bytearray(layout.bytes)
    data[: len(layout.header)] = layout.header
    for name, tensor in TENSORS.items():
        raw = tensor.reshape(-1).view(torch.uint8).numpy().tobytes()
        data[layout.starts[name] : layout.starts[name] + len(raw)] = raw
        assert layout.starts[name] % tensor.element_size() == 0
    file.write_bytes(data)
    loaded = load_file(file)
    assert all(torch.equal(loaded[name], tensor) for name, tensor in TENSORS.items())


def header_file(path, header: dict | bytes, data: bytes = b"") -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def entry(start: int, end: int, shape: list, dtype: str = "F32") -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


@pytest.mark.parametrize(
    ("header", "data", "message"),
    [
        (b"{", b"", "its header is not JSON"),
        ({"a": entry(0, 8, [2])}, b"\0" * 4, "speaks of"),
        ({"a": entry(0, 8, [2])}, b"\0" * 12, "speaks of"),
        ({"a": entry(0, 8, [3])}, b"\0" * 8, "entry for a is not sound"),
        ({"a": entry(0, 8, [-2])}, b"\0" * 8, "entry for a is not sound"),
        ({"a": entry(0, 8, [2]), "b": entry(4, 12, [2])}, b"\0" * 12, "overlap others"),
        ({"a": entry(0, 4, [1]), "b": entry(8, 12, [1])}, b"\0" * 12, "leave a gap"),
        ({"a": entry(0, 2, [2], "F8_E4M3")}, b"\0" * 2, "dtype F8_E4M3"),
        (b'{"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},"a":{}}', b"\0" * 4, "names a tensor twice"),
    ],
)
def test_a_header_that_is_not_sound(tmp_path, header, data, message):
    header_file(tmp_path / "a.safetensors", header, data)
    with pytest.raises(CheckpointError) as caught:
        read_header(tmp_path / "a.safetensors")
    assert message in caught.value.message


def test_a_length_beyond_the_file(tmp_path):
    (tmp_path / "a.safetensors").write_bytes((10**12).to_bytes(8, "little") + b"{}")
    with pytest.raises(CheckpointError, match="header would take"):
        read_header(tmp_path / "a.safetensors")


def test_a_file_cut_short_while_it_is_read(tmp_path):
    file = tmp_path / "a.safetensors"
    save_file({"x": torch.zeros(100)}, file)
    (info,) = read_header(file)
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(CheckpointError, match="it ends inside x"):
        read_tensor(info)


def test_a_sharded_model_opens_whole(make_model):
    one = Checkpoint.open(make_model("one"))
    many = Checkpoint.open(make_model("many", shard="4KB"))
    assert len(one.files) == 1
    assert len(many.files) > 2
    assert {n: t.shape for n, t in one.tensors.items()} == {n: t.shape for n, t in many.tensors.items()}
    assert one.parameters == many.parameters
    assert one.bytes == many.bytes == 4 * one.parameters


def test_an_index_that_disagrees_with_its_files(make_model):
    directory = make_model("many", shard="4KB")
    index = directory / "model.safetensors.index.json"
    good = json.loads(index.read_text())
    first = next(iter(good["weight_map"]))
    index.write_text(json.dumps({"weight_map": good["weight_map"] | {"ghost": good["weight_map"][first]}}))
    with pytest.raises(CheckpointError, match="disagree about ghost"):
        Checkpoint.open(directory)
    index.write_text(json.dumps({"weight_map": good["weight_map"] | {first: "../secret"}}))
    with pytest.raises(CheckpointError, match="is no file name"):
        Checkpoint.open(directory)
    index.write_text(json.dumps({"weight_map": {}}))
    with pytest.raises(CheckpointError, match="no weight_map"):
        Checkpoint.open(directory)


def test_a_pickle_is_refused_with_the_safe_way(make_model):
    directory = make_model("pickle")
    (directory / "model.safetensors").rename(directory / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="pickle") as caught:
        Checkpoint.open(directory)
    assert "weights_only=True" in caught.value.fix


def test_what_is_no_model_directory(tmp_path, make_model):
    for path, message in (
        (tmp_path / "none", "does not exist"),
        (tmp_path, "no config.json"),
    ):
        with pytest.raises(CheckpointError, match=message):
            Checkpoint.open(path)
    directory = make_model("m")
    with pytest.raises(CheckpointError, match="not a directory"):
        Checkpoint.open(directory / "config.json")
    (directory / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match="neither"):
        Checkpoint.open(directory)
    (directory / "adapter_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="an adapter"):
        Checkpoint.open(directory)
    (directory / "config.json").write_text("[]")
    with pytest.raises(CheckpointError, match="not a JSON object"):
        Checkpoint.open(directory)
    (directory / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="as JSON"):
        Checkpoint.open(directory)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model.embed_tokens.weight", (None, "embedding")),
        ("transformer.wte.weight", (None, "embedding")),
        ("model.layers.11.self_attn.q_proj.weight", (11, "attention")),
        ("model.layers.11.self_attn.q_norm.weight", (11, "norm")),
        ("model.layers.2.mlp.experts.7.down_proj.weight", (2, "mlp")),
        ("transformer.h.0.ln_1.weight", (0, "norm")),
        ("transformer.ln_f.bias", (None, "norm")),
        ("encoder.layer.3.intermediate.dense.weight", (3, "mlp")),
        ("lm_head.weight", (None, "head")),
        ("gpt_neox.embed_out.weight", (None, "head")),
        ("embed_out.weight", (None, "head")),
        ("visual.projector.weight", (None, "other")),
    ],
)
def test_names_say_what_a_tensor_is(name, expected):
    parsed = layer_name(name)
    assert (parsed.index if parsed else None, role(name)) == expected


def test_a_layers_tensor_can_be_named_in_another_layer():
    assert layer_name("model.layers.3.mlp.experts.5.w1").at(7) == "model.layers.7.mlp.experts.5.w1"
