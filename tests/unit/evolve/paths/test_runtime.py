from __future__ import annotations

import json
import random

import pytest
import torch
import transformers as hf
from safetensors.torch import save_file

from layered import KINDS, random_model
from mergery import Recipe, merge
from mergery.checkpoint import ModelRef
from mergery.errors import CheckpointError, RecipeError
from mergery.evaluate import get_evaluator, load_items
from mergery.evolve.paths import Hop, LivePaths, Path, path_recipe

HOPS = (Hop(0, 0), Hop(1, 1, 0.8), Hop(0, 1), Hop(0, 1, 1.3), Hop(1, 2), Hop(0, 2, 0.6))


KEPT = torch.tensor([1, 4])
TUPLES = ("falcon", "gptj")
"""Their layers put out more than the state; such are not shared."""


def gained(kind: str) -> bool:
    return kind != "olmo2"


@pytest.fixture
def pair(make_kind):
    return lambda kind="llama": [ModelRef(str(make_kind(name, kind, seed))) for seed, name in enumerate("ab")]


def logits(model: hf.PreTrainedModel, tokens: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return model(input_ids=tokens, use_cache=False, logits_to_keep=KEPT).logits


@pytest.mark.parametrize("kind", KINDS)
def test_sharing_changes_no_bit(kind, pair, ids):
    live = LivePaths(pair(kind))
    for cut in (6, 4, 6):
        hops = HOPS[:cut] if gained(kind) else tuple(Hop(hop.model, hop.layer) for hop in HOPS[:cut])
        model = live.build(Path((*hops, Hop(1, 0))))
        for tokens in (ids[:3, :9], ids[3:8, :7]):
            # with gradients nothing is shared
            whole = model(input_ids=tokens, use_cache=False, logits_to_keep=KEPT).logits
            assert torch.equal(logits(model, tokens), whole)
    # of two batches each: the second path shares 4 hops with the first, the third all of its 7
    assert live.forwards.saved == (0 if kind in TUPLES else 2 * (4 + 7))


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gemma2", "gemma3_text", "gpt2", "gpt_neox", "mistral"])
def test_generation_with_a_cache_is_generation_without(kind, pair, tmp_path):
    refs = pair(kind)
    model = LivePaths(refs).build(Path(HOPS))
    merge(path_recipe(Path(HOPS), refs), tmp_path / "out")
    written = hf.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    tokens = torch.randint(3, 40, (2, 5), generator=torch.Generator().manual_seed(1))
    settings = {"max_new_tokens": 20, "min_new_tokens": 20, "do_sample": False, "pad_token_id": 2}
    settings["attention_mask"] = torch.ones_like(tokens)
    runs = [
        one.generate(tokens, use_cache=cached, **settings)
        for one in (model, written)
        for cached in (True, False)
    ]
    assert all(torch.equal(run, runs[0]) for run in runs)


def test_each_prefix_is_run_once_for_each_batch(pair, ids):
    live = LivePaths(pair())
    dice, hops, ran = random.Random(2), list(HOPS), 0
    prefixes = {}
    for _ in range(25):
        hops[dice.randrange(6)] = Hop(dice.randrange(2), dice.randrange(3), dice.choice([1.0, 0.7]))
        model = live.build(Path(tuple(hops)))
        for batch in range(2):
            logits(model, ids[batch : batch + 2, :8])
            prefixes |= {(batch, *hops[:length]): None for length in range(1, 7)}
            ran += 6
    assert live.forwards.done == len(prefixes)
    assert live.forwards.saved == ran - len(prefixes)
    assert live.forwards.share_saved == pytest.approx(1 - len(prefixes) / ran)


def test_memory_for_states_is_bounded(pair, ids):
    state = 2 * 8 * 16 * 4  # tokens, width, float32
    live, alone = LivePaths(pair(), state_bytes=9 * state), LivePaths(pair(), state_bytes=0)
    dice, hops = random.Random(2), list(HOPS)
    for _ in range(25):
        changed = list(hops)
        changed[dice.randrange(6)] = Hop(dice.randrange(2), dice.randrange(3))
        path = Path(tuple(changed))
        ours, theirs = live.build(path), alone.build(path)
        for batch in range(2):
            tokens = ids[batch : batch + 2, :8]
            assert torch.equal(logits(ours, tokens), logits(theirs, tokens))
            assert live.kept_bytes <= 9 * state
    assert 0.2 < live.forwards.share_saved < 0.6


def test_passes_that_more_than_tokens_decide_run_every_layer(pair, ids):
    live = LivePaths(pair())
    model, tokens = live.build(Path(HOPS)), ids[:2, :6]
    logits(model, tokens)
    mask = torch.ones_like(tokens)
    mask[0, :2] = 0
    with torch.no_grad():
        masked = model(input_ids=tokens, attention_mask=mask).logits
        recorded = model(input_ids=tokens, output_hidden_states=True)
        embedded = model(inputs_embeds=model.get_input_embeddings()(tokens)).logits
    assert not torch.equal(masked[0], embedded[0])
    torch.testing.assert_close(recorded.logits, embedded)
    assert len(dict.fromkeys(state.norm().item() for state in recorded.hidden_states)) == len(HOPS) + 1
    assert live.forwards.saved == 0
    model(input_ids=tokens).logits.sum()
    assert live.forwards.saved == 0


def test_models_built_before_stay_what_they_are(pair, ids):
    live = LivePaths(pair())
    first = live.build(Path(HOPS))
    before = logits(first, ids[:2, :8])
    second = live.build(Path(HOPS[::-1]))
    assert not torch.equal(logits(second, ids[:2, :8]), before)
    assert torch.equal(logits(first, ids[:2, :8]), before)
    weights = [model.model.layers[place].mlp.up_proj.weight for model, place in ((first, 0), (second, -1))]
    assert weights[0] is weights[1]


def test_the_donors_own_path_is_the_donor(pair, ids):
    refs = pair()
    model = LivePaths(refs).build(Path.plain(3))
    assert torch.equal(logits(model, ids), logits(random_model("llama", 0), ids))


def test_it_is_scored_like_its_file(pair, tmp_path, tokenizer):
    items = tmp_path / "items.jsonl"
    rows = [{"prompt": f"the {animal} sees {what}", "answer": " two"} for animal in WORDS for what in WORDS]
    items.write_text("".join(json.dumps(row) + "\n" for row in rows))
    refs, evaluator = pair(), get_evaluator("likelihood")
    live = LivePaths(refs)
    scorer = evaluator.prepare(live.tokenizer, load_items(items), context=128)
    merge(path_recipe(Path(HOPS), refs), tmp_path / "out")
    written = hf.AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    ours = [scorer.score(live.build(Path(HOPS))).value for _ in range(3)]
    assert ours == pytest.approx([scorer.score(written).value] * 3, abs=1e-5)
    assert ours == ours[:1] * 3
    assert live.forwards.share_saved == 2 / 3


WORDS = ("cat", "dog", "bird", "one", "four", "five", "but")


def test_layers_of_a_merge_in_memory(pair, ids, tmp_path):
    first, second = pair()
    mixed = Recipe.from_dict(
        {"merge_method": "linear", "models": [{"model": str(first)}, {"model": str(second)}]}
    )
    merge(mixed, tmp_path / "mixed")
    path = Path((Hop(0, 0), Hop(1, 1, 0.5), Hop(1, 2)))
    live = LivePaths([first, mixed]).build(path)
    stored = LivePaths([first, ModelRef(str(tmp_path / "mixed"))]).build(path)
    torch.testing.assert_close(logits(live, ids), logits(stored, ids))
    average = (random_model("llama", 0).lm_head.weight + random_model("llama", 1).lm_head.weight) / 2
    torch.testing.assert_close(LivePaths([mixed, first]).donor.lm_head.weight, average)


def test_a_models_adapter_is_on_its_layers(pair, tmp_path):
    first, second = pair()
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    settings = {"peft_type": "LORA", "r": 2, "lora_alpha": 6, "target_modules": ["q_proj"]}
    (adapter / "adapter_config.json").write_text(json.dumps(settings))
    place = "model.layers.1.self_attn.q_proj"
    down, up = torch.randn(2, 16), torch.randn(16, 2)
    names = {f"base_model.model.{place}.lora_A.weight": down, f"base_model.model.{place}.lora_B.weight": up}
    save_file(names, adapter / "adapter_model.safetensors")
    live = LivePaths([first, ModelRef.parse(f"{second}+{adapter}")]).build(Path((Hop(0, 0), Hop(1, 1))))
    wanted = random_model("llama", 1).get_submodule(place).weight + 3 * up @ down
    torch.testing.assert_close(live.model.layers[1].self_attn.q_proj.weight, wanted)


@pytest.mark.parametrize(
    ("hop", "message"),
    [(Hop(2, 0), "layer 0 of model 2"), (Hop(1, 3), "layer 3 of model 1; the models have 3, 3")],
)
def test_hops_to_no_layer_are_refused(hop, message, pair):
    with pytest.raises(RecipeError, match=message):
        LivePaths(pair()).build(Path((hop,)))


def test_layers_of_another_build_are_refused(make_kind):
    donor = ModelRef(str(make_kind("donor", "llama", 0)))
    for name, kind, changes, message in (
        ("wide", "llama", {"intermediate_size": 32}, r"layer 1 of .*wide does not fit.*is \(32, 16\)"),
        ("other", "gpt_neox", {}, "only one of them has attention"),
    ):
        live = LivePaths([donor, ModelRef(str(make_kind(name, kind, 1, **changes)))])
        with pytest.raises(CheckpointError, match=message):
            live.build(Path((Hop(0, 0), Hop(1, 1))))


def test_gains_are_refused_where_they_do_not_hold(pair):
    live = LivePaths(pair("olmo2"))
    with pytest.raises(RecipeError, match="do not normalise what they read"):
        live.build(Path((Hop(0, 0, 0.5),)))
