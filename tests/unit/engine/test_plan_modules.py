"""Stacks, slices and modules: which layer comes from where, and which values it gets."""

from __future__ import annotations

import pytest

from mergery.engine import make_plan
from mergery.errors import CheckpointError, RecipeError
from mergery.recipe import Recipe


def inside(prefix: str, layers: int, *rests: str) -> dict[str, tuple[int, ...]]:
    return {f"{prefix}{layer}.{rest}.weight": (4, 4) for layer in range(layers) for rest in rests}


TEXT = {
    "language_model.model.embed_tokens.weight": (6, 4),
    **inside("language_model.model.layers.", 4, "self_attn.q_proj", "mlp.up_proj"),
    "language_model.model.norm.weight": (4,),
    "language_model.lm_head.weight": (6, 4),
}
VISION = {
    "vision_tower.embeddings.position_embedding.weight": (5, 4),
    **inside("vision_tower.encoder.layers.", 3, "self_attn.q_proj", "mlp.fc1"),
    "vision_tower.post_layernorm.weight": (4,),
}
PROJECTOR = {"multi_modal_projector.linear_1.weight": (4, 4)}
VLM = TEXT | VISION | PROJECTOR
VLM_CONFIG = {"text_config": {"num_hidden_layers": 4}, "vision_config": {"num_hidden_layers": 3}}
T5 = {
    "shared.weight": (6, 4),
    **inside("encoder.block.", 3, "layer.0.SelfAttention.q", "layer.1.DenseReluDense.wi"),
    "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight": (4, 2),
    "encoder.final_layer_norm.weight": (4,),
    **inside("decoder.block.", 2, "layer.0.SelfAttention.q"),
    "decoder.final_layer_norm.weight": (4,),
    "lm_head.weight": (6, 4),
}


def sliced(method: str, *parts, **rest) -> dict[str, object]:
    """A document of slices, each a list of (model, start, end)."""
    return {"merge_method": method, "slices": [part(*sources) for sources in parts]} | rest


def part(*sources) -> dict[str, object]:
    return {"sources": [{"model": str(m), "layer_range": [start, end]} for m, start, end in sources]}


def origin(plan) -> dict[str, list[tuple[str, str]]]:
    return {job.name: [(info.file.parent.name, info.name) for info in job.sources] for job in plan.jobs}


def values(plan, parameter: str) -> dict[str, object]:
    return {job.name: job.values[parameter] for job in plan.jobs}


def test_gradients_run_over_each_stack_of_a_whole_model(write_model):
    one, two = write_model("one", T5), write_model("two", T5)
    models = [{"model": str(model), "parameters": {"weight": [0, 1]}} for model in (one, two)]
    data = {"merge_method": "linear", "models": models, "parameters": {"normalize": False}}
    plan = make_plan(Recipe.from_dict(data))
    weight = values(plan, "weight")
    assert weight["encoder.block.1.layer.1.DenseReluDense.wi.weight"] == (0.5, 0.5)
    assert weight["encoder.block.2.layer.1.DenseReluDense.wi.weight"] == (1, 1)
    assert weight["decoder.block.1.layer.0.SelfAttention.q.weight"] == (1, 1)
    for name in ("shared.weight", "lm_head.weight", "decoder.final_layer_norm.weight"):
        assert weight[name] == (0, 0)


def test_slices_of_a_vision_language_model_speak_of_its_language_model(write_model):
    one, two = (write_model(name, VLM, **VLM_CONFIG) for name in ("one", "two"))
    plan = make_plan(Recipe.from_dict(sliced("passthrough", [(one, 0, 3)], [(two, 2, 4)])))
    found = origin(plan)
    layer = "language_model.model.layers.{}.mlp.up_proj.weight"
    assert found[layer.format(4)] == [("two", layer.format(3))]
    assert layer.format(5) not in found
    # towers and projector are the first slice's, whole
    for name in (*VISION, *PROJECTOR):
        assert found[name] == [("one", name)]
    assert found["language_model.model.embed_tokens.weight"][0][0] == "one"
    assert found["language_model.model.norm.weight"][0][0] == "two"
    assert found["language_model.lm_head.weight"][0][0] == "two"
    assert plan.config["text_config"]["num_hidden_layers"] == 5
    assert plan.config["vision_config"]["num_hidden_layers"] == 3


def test_slices_with_several_stacks_ask_for_modules(write_model):
    one = write_model("one", T5)
    expected = r"several stacks of layers: decoder\.block\., encoder\.block\."
    with pytest.raises(RecipeError, match=expected) as caught:
        make_plan(Recipe.from_dict(sliced("passthrough", [(one, 0, 1)])))
    assert "modules:" in caught.value.fix


def test_a_model_without_layers_has_no_slices(write_model):
    one = write_model("one", {"a.weight": (2,)})
    with pytest.raises(RecipeError, match="has no layers there"):
        make_plan(Recipe.from_dict(sliced("passthrough", [(one, 0, 1)])))


def test_modules_have_their_own_slices_and_parameters(write_model):
    one, two = (write_model(name, T5, num_layers=3, num_decoder_layers=2) for name in ("one", "two"))
    both = {"models": [{"model": str(one)}, {"model": str(two)}]}
    modules = {
        "shared": both,
        "encoder": {"slices": [part((one, 0, 1), (two, 2, 3)), part((one, 1, 3), (two, 1, 3))]},
        "decoder": both | {"parameters": {"weight": 0.25}},
    }
    plan = make_plan(
        Recipe.from_dict({"merge_method": "linear", "modules": modules, "parameters": {"weight": 0.75}})
    )
    found = origin(plan)
    name = "encoder.block.{}.layer.0.SelfAttention.q.weight"
    assert found[name.format(0)] == [("one", name.format(0)), ("two", name.format(2))]
    assert sorted(found) == sorted(T5)
    weight = values(plan, "weight")
    assert weight["decoder.block.1.layer.0.SelfAttention.q.weight"] == (0.25, 0.25)
    assert weight["lm_head.weight"] == (0.25, 0.25)  # a head belongs to the decoder
    assert weight["encoder.final_layer_norm.weight"] == weight["shared.weight"] == (0.75, 0.75)


def test_a_modules_parameters_stand_between_those_of_slices_and_of_the_recipe(write_model):
    one, two = write_model("one", T5), write_model("two", T5)
    both = {"models": [{"model": str(one)}, {"model": str(two)}]}
    encoder = {
        "slices": [
            part((one, 0, 1), (two, 0, 1)) | {"parameters": {"normalize": False}},
            part((one, 1, 3), (two, 1, 3)),
        ],
        "parameters": {"normalize": True, "weight": [{"filter": "wi", "value": 2}]},
    }
    data = {
        "merge_method": "linear",
        "modules": {"shared": both, "encoder": encoder, "decoder": both},
        "parameters": {"normalize": False, "weight": 5},
    }
    plan = make_plan(Recipe.from_dict(data))
    normalize, weight = values(plan, "normalize"), values(plan, "weight")
    name = "encoder.block.{}.layer.{}.weight"
    assert normalize[name.format(0, "1.DenseReluDense.wi")] is False
    assert normalize[name.format(1, "1.DenseReluDense.wi")] is True
    assert normalize["shared.weight"] is False
    assert weight[name.format(1, "1.DenseReluDense.wi")] == (2, 2)
    assert weight[name.format(1, "0.SelfAttention.q")] == (5, 5)  # the filter does not fit: the next level


def test_known_names_of_modules(write_model):
    one, llm = write_model("one", VLM, **VLM_CONFIG), write_model("llm", TEXT)
    alone = {"models": [{"model": str(one)}]}
    both = {"models": [{"model": str(one)}, {"model": str(llm)}]}
    for text, vision in (("text_decoder", "vision_tower"), ("language_model", "vision_encoder")):
        modules = {text: both, vision: alone, "multi_modal_projector": alone}
        found = origin(make_plan(Recipe.from_dict({"merge_method": "linear", "modules": modules})))
        assert sorted(found) == sorted(VLM)
        for name, models in found.items():
            assert [model for model, _ in models] == (["one", "llm"] if name in TEXT else ["one"])


def test_a_part_named_by_the_beginning_of_its_names(write_model):
    names = {
        "model.encoder.layers.0.fc1.weight": (2,),
        "model.decoder.layers.0.fc1.weight": (2,),
        "model.shared.weight": (2,),
    }
    one = write_model("one", names)
    alone = {"models": [{"model": str(one)}]}
    modules = {"encoder": alone, "model.decoder": alone, "default": alone}
    plan = make_plan(Recipe.from_dict({"merge_method": "passthrough", "modules": modules}))
    assert [job.name for job in plan.jobs] == [
        "model.encoder.layers.0.fc1.weight",
        "model.decoder.layers.0.fc1.weight",
        "model.shared.weight",
    ]


@pytest.mark.parametrize(
    ("module", "message", "fix"),
    [
        ("vision_towr", r"modules\.vision_towr: no tensor", "did you mean vision_tower"),
        ("audio_tower", r"modules\.audio_tower: no tensor", "did you mean vision_tower"),
        ("q_proj", r"modules\.q_proj: it could mean language_model.* and ", "whole beginning"),
    ],
)
def test_a_module_that_is_not_there(write_model, module, message, fix):
    one = write_model("one", VLM)
    alone = {"models": [{"model": str(one)}]}
    data = {"merge_method": "passthrough", "modules": {"text_decoder": alone, module: alone}}
    with pytest.raises(RecipeError, match=message) as caught:
        make_plan(Recipe.from_dict(data))
    assert fix in caught.value.fix


def test_tensors_of_no_module_are_an_error_unless_allowed_by_name(write_model):
    one = write_model("one", VLM)
    data = {"merge_method": "passthrough", "modules": {"text_decoder": {"models": [{"model": str(one)}]}}}
    with pytest.raises(
        CheckpointError, match=r"vision_tower\.\S+: it belongs to none of the recipe's modules"
    ):
        make_plan(Recipe.from_dict(data))
    rules = [{"filter": "vision_tower", "action": "copy"}, {"filter": "projector", "action": "drop"}]
    plan = make_plan(Recipe.from_dict(data | {"unmatched": rules}))
    assert sorted(job.name for job in plan.jobs) == sorted(TEXT | VISION)
    assert len(plan.notes) == 2


def test_the_end_comes_from_all_models_of_the_last_slice(write_model):
    """mergekit leaves out those that the first slice has not."""
    one, two = write_model("one", VLM), write_model("two", VLM)
    plan = make_plan(Recipe.from_dict(sliced("linear", [(one, 0, 1)], [(one, 1, 4), (two, 1, 4)])))
    found = origin(plan)
    assert [model for model, _ in found["language_model.lm_head.weight"]] == ["one", "two"]
    assert [model for model, _ in found["language_model.model.embed_tokens.weight"]] == ["one"]


def test_each_slice_may_have_its_own_base(write_model):
    one, two, three = (write_model(name, TEXT) for name in ("one", "two", "three"))
    parts = [
        part((two, 0, 2)) | {"base_model": str(one)},
        part((two, 2, 4), (one, 0, 2)) | {"base_model": str(three)},
    ]
    plan = make_plan(Recipe.from_dict({"merge_method": "ties", "slices": parts, "base_model": str(one)}))
    jobs = {job.name: job for job in plan.jobs}
    layer = "language_model.model.layers.{}.mlp.up_proj.weight"
    assert jobs[layer.format(1)].base.file.parent == one
    assert jobs[layer.format(3)].base.file.parent == three
    assert jobs[layer.format(3)].base.name == layer.format(3)
    assert [info.name for info in jobs[layer.format(3)].inputs] == [layer.format(3), layer.format(1)]
    assert jobs["language_model.model.norm.weight"].base.file.parent == three


def test_a_model_listed_twice_gives_both_its_layers(write_model):
    """Also the base: listed again with other layers it is an expert."""
    one, two = (write_model(name, TEXT, num_hidden_layers=4) for name in ("one", "two"))
    layer = "language_model.model.layers.{}.mlp.up_proj.weight"
    plan = make_plan(Recipe.from_dict(sliced("linear", [(one, 0, 2), (one, 2, 4)])))
    jobs = {job.name: job for job in plan.jobs}
    assert [info.name for info in jobs[layer.format(1)].inputs] == [layer.format(1), layer.format(3)]
    data = sliced("task_arithmetic", [(one, 0, 2), (two, 0, 2), (one, 2, 4)], base_model=str(one))
    jobs = {job.name: job for job in make_plan(Recipe.from_dict(data)).jobs}
    assert jobs[layer.format(1)].base.name == layer.format(1)
    assert [(i.file.parent.name, i.name) for i in jobs[layer.format(1)].inputs] == [
        ("two", layer.format(1)),
        ("one", layer.format(3)),
    ]


def test_a_layer_that_a_model_lacks_in_the_middle(write_model):
    names = {name: shape for name, shape in TEXT.items() if ".layers.2." not in name}
    one = write_model("one", names)
    with pytest.raises(CheckpointError, match=r"it has no tensor of layer language_model\.model\.layers\.2"):
        make_plan(Recipe.from_dict(sliced("passthrough", [(one, 0, 4)])))


def test_the_head_of_a_tied_last_model_is_its_embedding(write_model):
    headed = write_model("headed", TEXT, tie_word_embeddings=False)
    bare = {name: shape for name, shape in TEXT.items() if "lm_head" not in name}
    tied = write_model("tied", bare, tie_word_embeddings=True)
    plan = make_plan(Recipe.from_dict(sliced("passthrough", [(headed, 0, 2)], [(tied, 2, 4)])))
    assert origin(plan)["language_model.lm_head.weight"] == [
        ("tied", "language_model.model.embed_tokens.weight")
    ]
    assert plan.config["tie_word_embeddings"] is False


def test_a_recipe_in_a_recipe_is_planned_without_being_written(write_model):
    one, two, three = (write_model(name, TEXT) for name in ("one", "two", "three"))
    inner = {"merge_method": "linear", "models": [{"model": str(one)}, {"model": str(two)}]}
    plan = make_plan(
        Recipe.from_dict({"merge_method": "ties", "base_model": str(three), "models": [{"model": inner}]})
    )
    job = plan.jobs[0]
    assert job.base.file.parent == three
    (computed,) = job.inputs
    assert [info.file.parent for info in computed.job.inputs] == [one, two]
    assert (computed.shape, computed.dtype, computed.bytes) == (job.output.shape, "F32", job.output.bytes)
    assert plan.bytes_read == 3 * plan.bytes_written
    assert plan.donor.directory == three
    leading = make_plan(
        Recipe.from_dict({"merge_method": "linear", "models": [{"model": inner}, {"model": str(three)}]})
    )
    assert leading.donor.directory == one


def test_the_recipe_of_the_page_is_a_recipe():
    from pathlib import Path

    page = Path(__file__).resolve().parents[3] / "docs" / "architectures.md"
    text = page.read_text().partition("```yaml\n")[2].partition("```")[0]
    assert Recipe.from_yaml(text).modules[0].name == "text_decoder"
