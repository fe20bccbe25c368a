"""Every tensor of every model is used, or named: in an error, or in a note."""

from __future__ import annotations

import re

import pytest

from mergery.engine import make_plan
from mergery.errors import CheckpointError
from mergery.recipe import Recipe

PLAIN = {
    "model.embed_tokens.weight": (6, 4),
    "model.layers.0.mlp.up_proj.weight": (4, 4),
    "model.layers.1.mlp.up_proj.weight": (4, 4),
    "model.norm.weight": (4,),
}
HEAD = {"lm_head.weight": (6, 4)}
EXTRA = {f"model.extra.{number}": (2,) for number in range(12)}


def recipe(method: str, *models, base=None, unmatched=(), **rest) -> Recipe:
    data = {"merge_method": method, "models": [{"model": str(model)} for model in models]}
    data |= {"base_model": str(base)} if base else {}
    data |= (
        {"unmatched": [{"filter": part, "action": action} for part, action in unmatched]} if unmatched else {}
    )
    return Recipe.from_dict(data | rest)


def planned(plan) -> dict[str, list[tuple[str, str]]]:
    """For each tensor of the result the models and tensors that are read for it."""
    return {job.name: [(info.file.parent.name, info.name) for info in job.sources] for job in plan.jobs}


def test_up_to_ten_tensors_without_partners_are_named_in_one_message(write_model):
    one, two = write_model("one", PLAIN), write_model("two", PLAIN | EXTRA)
    with pytest.raises(CheckpointError) as caught:
        make_plan(recipe("linear", one, two))
    message = caught.value.message
    assert re.findall(r"model\.extra\.(\d+)", message) == [
        str(number) for number in (0, 1, 10, 11, *range(2, 8))
    ]
    assert "; and 2 more" in message
    assert f"{one}: it has no tensor model.extra.0" in message
    assert "unmatched:" in caught.value.fix


def test_different_numbers_of_layers_are_said(write_model):
    deeper = PLAIN | {"model.layers.2.mlp.up_proj.weight": (4, 4)}
    one, two = write_model("one", PLAIN), write_model("two", deeper)
    expected = r"one has model\.layers\.0 to model\.layers\.1; .*two has model\.layers\.0 to model\.layers\.2"
    with pytest.raises(CheckpointError, match=expected):
        make_plan(recipe("linear", one, two))


def test_all_shapes_that_differ_are_named_with_the_heads(write_model):
    shapes = {
        "model.layers.0.self_attn.k_proj.weight": (4, 4),
        "model.layers.0.self_attn.v_proj.weight": (4, 4),
    }
    one = write_model("one", PLAIN | shapes, num_key_value_heads=2)
    two = write_model("two", PLAIN | dict.fromkeys(shapes, (2, 4)), num_key_value_heads=1)
    expected = r"k_proj.weight: shape \[4, 4\].*; .*v_proj.weight: .*\(num_key_value_heads is 2, 1\)"
    with pytest.raises(CheckpointError, match=expected):
        make_plan(recipe("linear", one, two))


def test_unmatched_says_by_name_what_becomes_of_a_tensor(write_model):
    three = [write_model("one", PLAIN)]
    three += [write_model(name, PLAIN | {"a.b": (2,), "c.d": (3,), "e.f": (4,)}) for name in ("two", "three")]
    rules = [("a.b", "copy"), ("c.*", "drop"), ("e.f", "merge"), ("nothing", "drop")]
    plan = make_plan(recipe("linear", *three, unmatched=rules, parameters={"weight": 0.5}))
    found = planned(plan)
    assert found["a.b"] == [("two", "a.b")]
    assert "c.d" not in found
    assert found["e.f"] == [("two", "e.f"), ("three", "e.f")]
    jobs = {job.name: job for job in plan.jobs}
    assert jobs["a.b"].method.name == "passthrough"
    assert jobs["e.f"].values["weight"] == (0.5, 0.5)
    assert jobs["e.f"].method.name == "linear"
    assert list(plan.notes) == [
        "unmatched[0] (a.b): copied from the first model that has them: a.b",
        "unmatched[1] (c.*): left out: c.d",
        "unmatched[2] (e.f): merged: e.f",
        "unmatched[3] (nothing): no tensor needs it",
    ]
    assert plan.risks[:4] == plan.notes


def test_a_note_names_ten_tensors_and_counts_the_others(write_model):
    one, two = write_model("one", PLAIN), write_model("two", PLAIN | EXTRA)
    (note,) = make_plan(recipe("linear", one, two, unmatched=[("extra", "drop")])).notes
    assert note.count("model.extra.") == 10
    assert note.endswith(", and 2 more")


def test_what_all_have_is_merged_whatever_unmatched_says(write_model):
    one, two = write_model("one", PLAIN), write_model("two", PLAIN)
    plan = make_plan(recipe("linear", one, two, unmatched=[("norm", "drop")]))
    assert [name for name, _ in planned(plan)["model.norm.weight"]] == ["one", "two"]


def test_merging_a_part_needs_what_the_method_needs(write_model):
    base = write_model("base", PLAIN)
    one, two = (write_model(name, PLAIN | {"a.b": (2,)}) for name in ("one", "two"))
    merged = [("a.b", "merge")]
    with pytest.raises(CheckpointError, match=r"a\.b: unmatched: merge, and the base has no such tensor"):
        make_plan(recipe("ties", one, two, base=base, unmatched=merged))
    with pytest.raises(CheckpointError, match=r"a\.b: .*slerp takes at least 2 models, and 1 have such"):
        make_plan(recipe("slerp", one, base=base, unmatched=merged, parameters={"t": 0.5}))
    plan = make_plan(recipe("ties", base, two, base=one, unmatched=merged))
    assert planned(plan)["a.b"] == [("one", "a.b"), ("two", "a.b")]


@pytest.mark.parametrize("order", ["head first", "head last"])
def test_a_tied_embedding_stands_for_the_head_that_another_model_has(write_model, order):
    tied = write_model("tied", PLAIN, tie_word_embeddings=True)
    headed = write_model("headed", PLAIN | HEAD, tie_word_embeddings=False)
    models = (headed, tied) if order == "head first" else (tied, headed)
    plan = make_plan(recipe("linear", *models))
    expected = [("headed", "lm_head.weight"), ("tied", "model.embed_tokens.weight")]
    assert sorted(planned(plan)["lm_head.weight"]) == expected
    assert plan.config["tie_word_embeddings"] is False
    (note,) = plan.notes
    assert note == (
        f"lm_head.weight: {tied} ties it to model.embed_tokens.weight, which stands for it; in the result "
        "the two are not tied"
    )


def test_without_any_head_the_result_is_tied_as_the_models_are(write_model):
    models = [write_model(name, PLAIN, tie_word_embeddings=True) for name in ("one", "two")]
    plan = make_plan(recipe("linear", *models))
    assert plan.config["tie_word_embeddings"] is True
    assert plan.notes == ()


def test_a_head_that_only_the_configuration_ties_is_not_lost(write_model):
    """transformers drops a merged head when the base's configuration still says that it is tied."""
    base = write_model("base", PLAIN | HEAD, tie_word_embeddings=True)
    one = write_model("one", PLAIN | HEAD, tie_word_embeddings=False)
    plan = make_plan(recipe("ties", one, base=base))
    assert plan.config["tie_word_embeddings"] is False


def test_an_untied_model_without_a_head_is_an_error(write_model):
    bare = write_model("bare", PLAIN, tie_word_embeddings=False)
    headed = write_model("headed", PLAIN | HEAD, tie_word_embeddings=False)
    with pytest.raises(CheckpointError, match=r"bare: it has no tensor lm_head\.weight"):
        make_plan(recipe("linear", headed, bare))


T5 = {
    "shared.weight": (6, 4),
    "encoder.block.0.layer.0.SelfAttention.q.weight": (4, 4),
    "decoder.block.0.layer.0.SelfAttention.q.weight": (4, 4),
}


def test_tied_and_untied_models_that_scale_their_logits_differently_are_an_error(write_model):
    tied = write_model("tied", T5, is_encoder_decoder=True, tie_word_embeddings=True)
    headed = write_model("headed", T5 | HEAD, is_encoder_decoder=True, tie_word_embeddings=False)
    with pytest.raises(CheckpointError, match=r"tied: it has no tensor lm_head\.weight"):
        make_plan(recipe("linear", headed, tied))


def test_copies_of_a_shared_embedding_are_found_again(write_model):
    older = T5 | {"encoder.embed_tokens.weight": (6, 4), "lm_head.weight": (6, 4)}
    one = write_model("one", T5, is_encoder_decoder=True, tie_word_embeddings=True)
    two = write_model("two", older, is_encoder_decoder=True, tie_word_embeddings=True)
    plan = make_plan(recipe("linear", one, two))
    assert planned(plan)["encoder.embed_tokens.weight"] == [
        ("one", "shared.weight"),
        ("two", "encoder.embed_tokens.weight"),
    ]
    assert plan.config["tie_word_embeddings"] is True


def test_buffers_that_models_compute_are_left_out_unless_all_have_them(write_model):
    buffers = {
        "model.layers.0.self_attn.rotary_emb.inv_freq": (2,),
        "model.layers.1.self_attn.rotary_emb.inv_freq": (2,),
    }
    one, two = write_model("one", PLAIN), write_model("two", PLAIN | buffers)
    plan = make_plan(recipe("linear", one, two))
    assert not planned(plan).keys() & buffers.keys()
    (note,) = plan.notes
    assert "left out" in note
    assert all(name in note for name in buffers)
    both = make_plan(recipe("linear", two, write_model("three", PLAIN | buffers)))
    assert planned(both).keys() >= buffers.keys()
    assert both.notes == ()


def test_unmatched_comes_before_what_is_known_of_heads_and_buffers(write_model):
    tied = write_model("tied", PLAIN, tie_word_embeddings=True)
    headed = write_model("headed", PLAIN | HEAD, tie_word_embeddings=False)
    plan = make_plan(recipe("linear", tied, headed, unmatched=[("lm_head", "drop")]))
    assert "lm_head.weight" not in planned(plan)
    assert plan.config["tie_word_embeddings"] is True
    copied = make_plan(recipe("linear", tied, headed, unmatched=[("lm_head", "copy")]))
    assert planned(copied)["lm_head.weight"] == [("headed", "lm_head.weight")]
    assert copied.config["tie_word_embeddings"] is False


def test_the_order_is_the_leaders_then_what_others_have_beside(write_model):
    reverse = dict(reversed(PLAIN.items()))
    one, two = write_model("one", reverse), write_model("two", PLAIN | EXTRA)
    plan = make_plan(recipe("linear", one, two, unmatched=[("extra", "copy")]))
    from mergery.checkpoint import Checkpoint

    assert [job.name for job in plan.jobs][: len(PLAIN)] == list(Checkpoint.open(one).tensors)


def test_a_quantised_model_is_refused(write_model):
    one = write_model("one", PLAIN)
    two = write_model("two", PLAIN, quantization_config={"quant_method": "gptq"})
    with pytest.raises(CheckpointError, match=r"two: its weights are quantised"):
        make_plan(recipe("linear", one, two))


def test_models_that_differ_in_their_vocabularies_alone_need_one_for_the_result(write_model):
    sized = {
        name: (8, 4) if "embed" in name or "head" in name else shape for name, shape in (PLAIN | HEAD).items()
    }
    one, two = write_model("one", PLAIN | HEAD), write_model("two", sized)
    with pytest.raises(CheckpointError, match=r"embed_tokens\.weight: shape \[6, 4\]") as caught:
        make_plan(recipe("linear", one, two))
    assert "tokenizer_source: union" in caught.value.fix


def test_the_end_of_the_leader_is_not_lost_when_the_last_slice_has_none(write_model):
    scored = write_model("scored", PLAIN | {"score.weight": (2, 4)}, num_hidden_layers=2)
    plain = write_model("plain", PLAIN, num_hidden_layers=2)
    parts = [
        {"sources": [{"model": str(model), "layer_range": [layer, layer + 1]}]}
        for layer, model in enumerate((scored, plain))
    ]
    data = {"merge_method": "passthrough", "slices": parts}
    with pytest.raises(CheckpointError, match=r"plain: it has no tensor score\.weight"):
        make_plan(Recipe.from_dict(data))
    with pytest.raises(CheckpointError, match=r"plain: it has no tensor score\.weight"):
        make_plan(Recipe.from_dict(data | {"unmatched": [{"filter": "score", "action": "copy"}]}))
    dropped = make_plan(Recipe.from_dict(data | {"unmatched": [{"filter": "score", "action": "drop"}]}))
    assert sorted(planned(dropped)) == sorted(PLAIN)


def test_a_module_of_other_models_must_have_what_the_leader_has_there(write_model):
    names = {"encoder.block.0.q.weight": (4, 4), "decoder.block.0.q.weight": (4, 4)}
    one = write_model("one", names | {"decoder.block.1.q.weight": (4, 4)})
    two = write_model("two", names)
    modules = {
        part: {"models": [{"model": str(model)}]} for part, model in (("encoder", one), ("decoder", two))
    }
    with pytest.raises(CheckpointError, match=r"two: it has no tensor decoder\.block\.1\.q\.weight"):
        make_plan(Recipe.from_dict({"merge_method": "passthrough", "modules": modules}))
