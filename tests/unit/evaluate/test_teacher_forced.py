"""The pass against an item at a time, and against generation, on real tiny models."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoModelForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    PreTrainedTokenizerFast,
)

from mergery.errors import DataError
from mergery.evaluate import Items
from mergery.evaluate.items import Item
from mergery.evaluate.teacher_forced import answer_outcomes, encode, prepare
from mergery.threads import sensible_threads

WORDS = "the cat dog bird sees has takes one two three four five and or but a b c d . ?".split()  # noqa: SIM905


@pytest.fixture(scope="module")
def items():
    dice = random.Random(0)

    def text(least, most):
        return " ".join(dice.choice(WORDS) for _ in range(dice.randint(least, most)))

    return Items("items", tuple(Item(text(1, 20), " " + text(1, 4), line=line) for line in range(1, 61)))


@pytest.fixture
def llama(make_model):
    return AutoModelForCausalLM.from_pretrained(make_model("llama")).eval()


def gpt2(vocabulary):
    torch.manual_seed(1)
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=vocabulary, n_embd=16, n_layer=2, n_head=2, n_positions=64, initializer_range=0.2
        )
    ).eval()


def gemma2(vocabulary):
    torch.manual_seed(1)
    return Gemma2ForCausalLM(
        Gemma2Config(
            vocab_size=vocabulary,
            hidden_size=16,
            intermediate_size=24,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=8,
            max_position_embeddings=64,
            sliding_window=8,
            final_logit_softcapping=2.0,
            initializer_range=0.3,
        )
    ).eval()


def one_at_a_time(model, tokenizer, items):
    """Mean log-probability and arg-max agreement, one item a pass, in float64."""
    chances, exact = [], []
    for item in items:
        prompt = tokenizer(item.prompt, add_special_tokens=False)["input_ids"]
        whole = tokenizer(item.prompt + item.answer, add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            logits = model(torch.tensor([whole])).logits[0].double()
        picked = [(position, whole[position]) for position in range(len(prompt), len(whole))]
        logs = logits.log_softmax(-1)
        chances.append(np.mean([logs[position - 1, token].item() for position, token in picked]))
        exact.append(all(logits[position - 1].argmax().item() == token for position, token in picked))
    return np.array(chances), np.array(exact, dtype=np.float32)


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gemma2"])
@pytest.mark.parametrize("budget", [1, 100, 100_000])
def test_batches_change_nothing(kind, budget, llama, tokenizer, items):
    model = {"llama": lambda _: llama, "gpt2": gpt2, "gemma2": gemma2}[kind](len(tokenizer))
    outcomes = answer_outcomes(model, prepare(tokenizer, items), batch_tokens=budget)
    chances, exact = one_at_a_time(model, tokenizer, items)
    np.testing.assert_allclose(outcomes.likelihood, chances, rtol=2e-5)
    np.testing.assert_array_equal(outcomes.exact_match, exact)


def test_exact_match_is_what_greedy_decoding_writes(llama, tokenizer):
    """Half of the answers are what the model itself writes, half have one token changed."""
    dice = random.Random(3)
    # without an end-of-text token: its suppression would be no greedy decoding
    llama.generation_config = GenerationConfig(do_sample=False, pad_token_id=1)
    entries, written = [], []
    for line in range(40):
        prompt = " ".join(dice.choice(WORDS) for _ in range(dice.randint(1, 12)))
        ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
        length = dice.randint(1, 5)
        out = llama.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=length)
        words = tokenizer.convert_ids_to_tokens(out[0, ids.shape[1] :].tolist())
        gold = list(words)
        if line % 2:
            gold[dice.randrange(length)] = dice.choice(WORDS)
        if "<unk>" in gold or "<pad>" in gold:
            continue
        entries.append(Item(prompt, " " + " ".join(gold), line=line))
        written.append(float(gold == words))
    outcomes = answer_outcomes(llama, prepare(tokenizer, Items("greedy", tuple(entries))))
    assert 5 < sum(written) < len(written) - 5
    assert outcomes.exact_match.tolist() == written


def test_spaces_at_the_end_of_the_prompt_belong_to_the_answer(tokenizer):
    assert encode(tokenizer, Item("the cat ", "sees")) == encode(tokenizer, Item("the cat", " sees"))


def test_a_beginning_of_text_token_is_kept_and_an_end_is_not():
    vocabulary = {word: index for index, word in enumerate(["<unk>", "<s>", "</s>", "a", "b", "c"])}
    trained = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    trained.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trained.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    marked = PreTrainedTokenizerFast(tokenizer_object=trained, bos_token="<s>", eos_token="</s>")
    assert encode(marked, Item("a b", " c b")) == ((1, 3, 4, 5, 4), 2)


def test_the_answers_tokens_are_those_after_the_prompts():
    """As in lm-eval: where a token spans the seam, the counts decide."""
    vocabulary = {"<unk>": 0, "a": 1, "b": 2, "c": 3, "bc": 4}
    merging = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.BPE(vocabulary, [("b", "c")], unk_token="<unk>"))
    )
    assert encode(merging, Item("aa", "bc")) == ((1, 1, 4), 1)
    assert encode(merging, Item("ab", "cc")) == ((1, 4, 3), 1)
    with pytest.raises(DataError, match=r"seam:4: the answer 'c' has no token of its own"):
        prepare(merging, Items("seam", (Item("ab", "c", line=4),)))


def test_texts_longer_than_the_model_takes_are_refused(tokenizer):
    long = Items("long", (Item("a b c d", " the cat", line=9),))
    assert prepare(tokenizer, long, context=6).rows[0][1] == 2
    with pytest.raises(DataError, match=r"long:9: 6 tokens, and the model takes 5"):
        prepare(tokenizer, long, context=5)


def test_a_batch_is_made_once_for_each_device(tokenizer, items):
    prepared = prepare(tokenizer, items)
    cpu = torch.device("cpu")
    assert prepared.batches(cpu, 100) is prepared.batches(cpu, 100)
    assert sum(len(batch.ids) for batch in prepared.batches(cpu, 100)) == len(items)
    assert all(batch.ids.numel() <= 100 for batch in prepared.batches(cpu, 100))


def test_no_padding_token_is_ever_fed(tokenizer, items):
    batches = prepare(tokenizer, items).batches(torch.device("cpu"), 500)
    assert not any((batch.ids == tokenizer.pad_token_id).any() for batch in batches)


def test_small_models_get_one_thread(llama):
    assert sensible_threads(llama.num_parameters()) == 1


def test_the_thread_count_is_put_back(llama, tokenizer, items):
    before = torch.get_num_threads()
    answer_outcomes(llama, prepare(tokenizer, items), threads=before + 1)
    assert torch.get_num_threads() == before
