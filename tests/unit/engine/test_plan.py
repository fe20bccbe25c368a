"""Plans: every tensor of the result, its inputs and its parameters, from headers alone."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, T5Config, T5ForConditionalGeneration

from mergery.engine import make_plan
from mergery.errors import CheckpointError, RecipeError
from mergery.recipe import Recipe


def recipe(method: str, *models, base=None, **rest) -> Recipe:
    sources = [model if isinstance(model, dict) else {"model": str(model)} for model in models]
    data = {"merge_method": method, "models": sources}
    return Recipe.from_dict(data | ({"base_model": str(base)} if base else {}) | rest)


def test_every_tensor_of_the_models_is_planned_once(make_model):
    base, one = make_model("base"), make_model("one", 1)
    plan = make_plan(recipe("ties", one, base=base))
    names = list(load_file(base / "model.safetensors"))
    assert sorted(job.name for job in plan.jobs) == sorted(names)
    assert all(len(job.inputs) == 1 and job.base.file.parent == base for job in plan.jobs)
    size = sum(tensor.nbytes for tensor in load_file(base / "model.safetensors").values())
    assert plan.bytes_written == size
    assert plan.bytes_read == 2 * size
    assert plan.donor.directory == base


def test_planning_reads_no_weight(make_model):
    base, one = make_model("base"), make_model("one", 1)
    for directory in (base, one):
        file = directory / "model.safetensors"
        blob = bytearray(file.read_bytes())
        start = 8 + int.from_bytes(blob[:8], "little")
        blob[start:] = b"\xff" * (len(blob) - start)  # all NaN
        file.write_bytes(blob)
    assert make_plan(recipe("linear", base, one)).bytes_read > 0


def test_gradients_run_over_the_layers_as_in_mergekit(make_model):
    base, one = make_model("base"), make_model("one", 1)
    plan = make_plan(
        recipe("task_arithmetic", one, base=base, parameters={"weight": [0.0, 1.0], "lambda": [2.0, 4.0]})
    )
    values = {job.name: job.values for job in plan.jobs}
    for layer, expected in enumerate((0.0, 0.5, 1.0)):
        got = values[f"model.layers.{layer}.mlp.up_proj.weight"]
        assert got["weight"] == (expected,)
        assert got["lambda"] == 2 + 2 * expected
    # what stands outside the layers takes the first value, the final norm too
    assert values["model.embed_tokens.weight"]["weight"] == values["model.norm.weight"]["weight"] == (0.0,)


def test_filters_fall_through_the_levels(make_model):
    base, one, two = make_model("base"), make_model("one", 1), make_model("two", 2)
    filtered = {"model": str(one), "parameters": {"weight": [{"filter": "mlp", "value": 0.25}]}}
    plan = make_plan(recipe("task_arithmetic", filtered, two, base=base, parameters={"weight": 0.75}))
    values = {job.name: job.values["weight"] for job in plan.jobs}
    assert values["model.layers.1.mlp.up_proj.weight"] == (0.25, 0.75)
    assert values["model.layers.1.self_attn.q_proj.weight"] == (0.75, 0.75)


def test_a_required_value_that_no_filter_gives(make_model):
    base, one = make_model("base"), make_model("one", 1)
    with pytest.raises(RecipeError, match="no value of t is meant for it") as caught:
        make_plan(recipe("slerp", one, base=base, parameters={"t": [{"filter": "mlp", "value": 0.5}]}))
    assert caught.value.message.startswith("model.embed_tokens.weight")


def test_slerp_starts_from_the_base_wherever_it_is_listed(make_model):
    base, one = make_model("base"), make_model("one", 1)
    for models in ((one,), (one, base), (base, one)):
        plan = make_plan(recipe("slerp", *models, base=base, parameters={"t": 0.5}))
        assert [info.file.parent for info in plan.jobs[0].inputs] == [base, one]


def test_a_listed_base_is_no_expert(make_model):
    base, one = make_model("base"), make_model("one", 1)
    plan = make_plan(recipe("task_arithmetic", base, one, base=base))
    assert [info.file.parent for info in plan.jobs[0].inputs] == [one]


def test_slices_take_layers_from_where_they_are_told(make_model):
    one, two = make_model("one"), make_model("two", 1)
    plan = make_plan(
        Recipe.from_dict(
            {
                "merge_method": "passthrough",
                "slices": [
                    {"sources": [{"model": str(one), "layer_range": [0, 3]}]},
                    {"sources": [{"model": str(two), "layer_range": [1, 3]}]},
                ],
            }
        )
    )
    origin = {job.name: (job.inputs[0].file.parent.name, job.inputs[0].name) for job in plan.jobs}
    assert origin["model.layers.3.mlp.up_proj.weight"] == ("two", "model.layers.1.mlp.up_proj.weight")
    assert origin["model.embed_tokens.weight"][0] == "one"
    assert origin["model.norm.weight"][0] == "two"
    assert plan.config["num_hidden_layers"] == 5


def test_layers_of_a_model_with_two_stacks_are_merged_whole_only(make_model, tmp_path):
    config = T5Config(vocab_size=23, d_model=16, d_kv=8, d_ff=24, num_layers=2, num_heads=2)
    for seed, name in enumerate(("one", "two")):
        torch.manual_seed(seed)
        T5ForConditionalGeneration(config).save_pretrained(tmp_path / name)
    one, two = tmp_path / "one", tmp_path / "two"
    plan = make_plan(recipe("linear", one, two))
    assert sorted(job.name for job in plan.jobs) == sorted(load_file(one / "model.safetensors"))
    with pytest.raises(RecipeError, match=r"several stacks of layers: decoder\.block\., encoder\.block\."):
        make_plan(slices("linear", part((one, 0, 1), (two, 0, 1))))


def test_configured_lists_follow_the_layers(make_model):
    one = make_model("one")
    config = json.loads((one / "config.json").read_text()) | {"layer_types": ["a", "b", "c"]}
    (one / "config.json").write_text(json.dumps(config))
    source = {"model": str(one)}
    plan = make_plan(
        Recipe.from_dict(
            {
                "merge_method": "passthrough",
                "slices": [
                    {"sources": [source | {"layer_range": [1, 3]}]},
                    {"sources": [source | {"layer_range": [0, 2]}]},
                ],
            }
        )
    )
    assert plan.config["layer_types"] == ["b", "c", "a", "b"]


def slices(method: str, *parts: dict, **rest) -> Recipe:
    return Recipe.from_dict({"merge_method": method, "slices": list(parts)} | rest)


def part(*sources: tuple, **rest) -> dict:
    """A slice of (model, first, end) or (model, first, end, parameters)."""
    keys = ("model", "first", "end", "parameters")
    named = [dict(zip(keys, source, strict=False)) for source in sources]
    return {
        "sources": [
            {"model": str(one["model"]), "layer_range": [one["first"], one["end"]]}
            | {key: one[key] for key in one.keys() & {"parameters"}}
            for one in named
        ]
    } | rest


def test_a_layers_own_entry_comes_from_its_own_model(make_model):
    one, two = make_model("one"), make_model("two", 1, num_hidden_layers=5)
    for directory, entries in ((one, "abc"), (two, "ABCDE")):
        config = json.loads((directory / "config.json").read_text()) | {"layer_types": list(entries)}
        (directory / "config.json").write_text(json.dumps(config))
    plan = make_plan(slices("passthrough", part((one, 0, 2)), part((two, 3, 5))))
    assert plan.config["layer_types"] == ["a", "b", "D", "E"]


def test_a_slice_of_one_layer_stands_at_the_end_of_its_gradient(make_model):
    base, one = make_model("base"), make_model("one", 1)
    gradient = {"weight": [0.25, 0.75]}
    parts = [part((base, 0, 2), (one, 0, 2, gradient)), part((base, 2, 3), (one, 2, 3, gradient))]
    plan = make_plan(slices("task_arithmetic", *parts, base_model=str(base)))
    values = {job.name: job.values["weight"] for job in plan.jobs}
    assert [values[f"model.layers.{layer}.mlp.up_proj.weight"] for layer in range(3)] == [
        (0.25,),
        (0.75,),
        (0.75,),
    ]


def test_a_slices_own_parameters_come_before_the_recipes(make_model):
    base, one = make_model("base"), make_model("one", 1)
    parts = [
        part((base, 0, 1), (one, 0, 1), parameters={"lambda": 3}),
        part((base, 1, 3), (one, 1, 3)),
    ]
    plan = make_plan(slices("ties", *parts, base_model=str(base), parameters={"lambda": 2}))
    values = {job.name: job.values["lambda"] for job in plan.jobs}
    assert values["model.layers.0.mlp.up_proj.weight"] == 3
    assert values["model.layers.1.mlp.up_proj.weight"] == 2


def test_sources_of_a_slice_may_stand_at_different_layers(make_model):
    one, two = make_model("one"), make_model("two", 1)
    plan = make_plan(slices("linear", part((one, 0, 2), (two, 1, 3))))
    inputs = {job.name: [info.name for info in job.inputs] for job in plan.jobs}
    name = "model.layers.{}.mlp.up_proj.weight"
    assert inputs[name.format(1)] == [name.format(1), name.format(2)]


def test_filters_see_a_models_own_names_and_the_results_names(make_model):
    one, two = make_model("one"), make_model("two", 1)
    own = {"weight": [{"filter": "layers.2.", "value": 5}, {"value": 1}]}
    normalize = [{"filter": "layers.3.", "value": False}, {"value": True}]
    plan = make_plan(
        slices("linear", part((one, 0, 3)), part((two, 1, 3, own)), parameters={"normalize": normalize})
    )
    values = {job.name: job.values for job in plan.jobs}
    # layers 3 and 4 of the result are layers 1 and 2 of two
    assert values["model.layers.4.mlp.up_proj.weight"]["weight"] == (5.0,)
    assert values["model.layers.3.mlp.up_proj.weight"]["weight"] == (1.0,)
    assert values["model.layers.3.mlp.up_proj.weight"]["normalize"] is False
    assert values["model.layers.4.mlp.up_proj.weight"]["normalize"] is True


def test_a_range_beyond_the_model(make_model):
    one = make_model("one")
    with pytest.raises(RecipeError, match=r"layer_range \[0, 9\] and it has 3 layers"):
        make_plan(
            Recipe.from_dict(
                {
                    "merge_method": "passthrough",
                    "slices": [{"sources": [{"model": str(one), "layer_range": [0, 9]}]}],
                }
            )
        )


def test_different_shapes_are_an_error_before_anything_is_read(make_model):
    base, wide = make_model("base"), make_model("wide", hidden_size=32)
    expected = r"model\.embed_tokens\.weight: shape \[23, 16\] in .*base, \[23, 32\] in .*wide"
    with pytest.raises(CheckpointError, match=expected):
        make_plan(recipe("linear", base, wide))


def test_a_tensor_that_one_model_lacks_is_an_error(make_model):
    base, one = make_model("base"), make_model("one", 1)
    tensors = load_file(one / "model.safetensors")
    save_file(tensors | {"model.extra.weight": torch.zeros(3)}, one / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"base: it has no tensor model\.extra\.weight"):
        make_plan(recipe("linear", base, one))
    deeper = make_model("deeper", num_hidden_layers=4)
    with pytest.raises(CheckpointError, match=r"it has no tensor model\.layers\.3"):
        make_plan(recipe("linear", base, deeper))


def test_what_fails_in_silence_elsewhere_is_a_risk_here(make_model):
    base, one, same = make_model("base"), make_model("one", 1), make_model("same", 2)
    assert make_plan(recipe("linear", base, same)).risks == ()
    config = json.loads((one / "config.json").read_text())
    (one / "config.json").write_text(json.dumps(config | {"hidden_act": "gelu"}))
    (one / "tokenizer.json").write_text((one / "tokenizer.json").read_text().replace('"cat"', '"kat"'))
    first, second = make_plan(recipe("linear", base, one)).risks
    assert "hidden_act is gelu" in first
    assert "tokenizers" in second


def test_the_output_type_is_the_recipes_then_the_bases(make_model):
    base = make_model("base", dtype=torch.bfloat16)
    one = make_model("one", 1)
    assert {job.output.dtype for job in make_plan(recipe("ties", one, base=base)).jobs} == {"BF16"}
    plan = make_plan(recipe("ties", one, base=base, dtype="float32", out_dtype="float16"))
    assert {job.output.dtype for job in plan.jobs} == {"F16"}
    assert plan.config["dtype"] == "float16"


def test_a_copied_directory_plans_the_same(make_model, tmp_path):
    base = make_model("base")
    shutil.copytree(base, tmp_path / "copy")
    plans = [make_plan(recipe("passthrough", directory)) for directory in (base, tmp_path / "copy")]
    assert [job.output.name for job in plans[0].jobs] == [job.output.name for job in plans[1].jobs]
    assert AutoModelForCausalLM.from_pretrained(base).config.num_hidden_layers == 3
