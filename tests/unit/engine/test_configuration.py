"""The result's configuration: layers, lists by layer, types, ties."""

from __future__ import annotations

import pytest

from mergery.engine.alignment import Member
from mergery.engine.assembly import Restacked
from mergery.engine.configuration import configured_layers, copy_companions, merged_config, text_config
from mergery.errors import CheckpointError


def member(stack: str, layers: int, **config: object) -> Member:
    """A model of one tensor a layer."""
    from pathlib import Path

    from mergery.checkpoint import TensorInfo

    names = [f"{stack}{layer}.mlp.weight" for layer in range(layers)]
    return Member("m", config, {name: TensorInfo(name, "F32", (2,), Path("f"), 0) for name in names})


def restacked(stack: str, *origin: tuple[Member, int]) -> list[Restacked]:
    return [Restacked(stack, origin)]


def merged(leader: Member, stacks=(), *, dtype=None, untied=False) -> dict[str, object]:
    return merged_config(leader, stacks, dtype=dtype, untied=untied)


def test_layers_as_they_were_leave_the_configuration_as_it_was():
    one = member("model.layers.", 2, num_hidden_layers=2, layer_types=["a", "b"], mlp_only_layers=[0, 1])
    same = merged(one, restacked("model.layers.", (one, 0), (one, 1)))
    assert same == one.config
    assert same is not one.config


@pytest.mark.parametrize(
    ("stack", "config", "expected"),
    [
        ("model.layers.", {"num_hidden_layers": 2}, {"num_hidden_layers": 3}),
        ("transformer.h.", {"n_layer": 2}, {"n_layer": 3}),
        (
            "encoder.block.",
            {"num_layers": 2, "num_decoder_layers": 2},
            {"num_layers": 3, "num_decoder_layers": 2},
        ),
        (
            "decoder.block.",
            {"num_layers": 2, "num_decoder_layers": 2},
            {"num_layers": 2, "num_decoder_layers": 3},
        ),
        (
            "model.encoder.layers.",
            {"encoder_layers": 2, "num_hidden_layers": 2, "decoder_layers": 2},
            {"encoder_layers": 3, "num_hidden_layers": 3, "decoder_layers": 2},
        ),
        ("bert.encoder.layer.", {"num_hidden_layers": 2}, {"num_hidden_layers": 3}),
        ("model.decoder.layers.", {"num_hidden_layers": 2}, {"num_hidden_layers": 3}),
        (
            "model.language_model.layers.",
            {"text_config": {"num_hidden_layers": 2}, "vision_config": {"num_hidden_layers": 2}},
            {"text_config": {"num_hidden_layers": 3}, "vision_config": {"num_hidden_layers": 2}},
        ),
        (
            "vision_tower.encoder.layers.",
            {"text_config": {"num_hidden_layers": 2}, "vision_config": {"num_hidden_layers": 2}},
            {"text_config": {"num_hidden_layers": 2}, "vision_config": {"num_hidden_layers": 3}},
        ),
        (
            "model.layers.",
            {"num_hidden_layers": 2, "vision_config": {"depth": 2}},
            {"num_hidden_layers": 3, "vision_config": {"depth": 2}},
        ),
        (
            "visual.blocks.",
            {"num_hidden_layers": 2, "vision_config": {"depth": 2}},
            {"num_hidden_layers": 2, "vision_config": {"depth": 3}},
        ),
    ],
)
def test_the_number_of_layers_is_written_where_the_stack_has_it(stack, config, expected):
    one = member(stack, 2, **config)
    assert merged(one, restacked(stack, (one, 0), (one, 1), (one, 1))) == expected
    assert one.config == config


def test_lists_by_layer_follow_the_layers_and_other_lists_do_not():
    one = member(
        "model.layers.",
        2,
        num_hidden_layers=2,
        layer_types=["a", "b"],
        eos_token_id=[7, 8],
        architectures=["A"],
        mrope_section=[1, 2],
        mlp_only_layers=[0],
    )
    two = member("model.layers.", 3, num_hidden_layers=3, layer_types=["A", "B", "C"], mlp_only_layers=[2])
    config = merged(one, restacked("model.layers.", (one, 1), (two, 2), (one, 0)))
    assert config["layer_types"] == ["b", "C", "a"]
    assert config["mlp_only_layers"] == [1, 2]
    assert (config["eos_token_id"], config["mrope_section"]) == ([7, 8], [1, 2])


def test_layers_of_another_model_bring_their_entries_though_no_number_changes():
    one = member("model.layers.", 2, num_hidden_layers=2, layer_types=["a", "b"])
    two = member("model.layers.", 2, num_hidden_layers=2, layer_types=["A", "B"])
    config = merged(one, restacked("model.layers.", (one, 0), (two, 1)))
    assert config == {"num_hidden_layers": 2, "layer_types": ["a", "B"]}


def test_a_configuration_that_does_not_say_how_many_layers_there_are_is_an_error():
    one = member("model.layers.", 2, num_hidden_layers=5)
    with pytest.raises(CheckpointError, match=r"nowhere says that model\.layers has 2 layers"):
        merged(one, restacked("model.layers.", (one, 0)))


def test_types_and_ties_are_written_wherever_they_stand():
    inner = {"tie_word_embeddings": True, "torch_dtype": "float32"}
    one = member("model.layers.", 1, torch_dtype="float32", text_config=inner, vision_config={"depth": 1})
    config = merged(one, dtype="bfloat16", untied=True)
    assert config == {
        "dtype": "bfloat16",
        "tie_word_embeddings": False,
        "text_config": {"tie_word_embeddings": False, "torch_dtype": "bfloat16"},
        "vision_config": {"depth": 1},
    }
    assert inner == {"tie_word_embeddings": True, "torch_dtype": "float32"}


def test_what_a_configuration_says_of_a_stack():
    config = {"num_hidden_layers": 4, "text_config": {"num_hidden_layers": 5}, "vision_config": {"depth": 6}}
    assert configured_layers(config, "model.layers.") == {"num_hidden_layers": 5}
    assert configured_layers(config, "visual.blocks.") == {"depth": 6}
    assert configured_layers(config, "model.visual.deepstack_merger_list.") == {}
    assert text_config(config) == {"num_hidden_layers": 5}
    assert text_config({"a": 1}) == {"a": 1}


def test_companions_are_copied(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    for name in ("tokenizer.json", "generation_config.json", "chat_template.jinja", "README.md"):
        (source / name).write_text(name)
    assert list(copy_companions(source, target)) == [
        "tokenizer.json",
        "chat_template.jinja",
        "generation_config.json",
    ]
    assert (target / "tokenizer.json").read_text() == "tokenizer.json"
    assert not (target / "README.md").exists()
