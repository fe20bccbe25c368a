from random import Random

import pytest
import torch

from mergery.errors import ZooError
from mergery.zoo.build import new_model
from mergery.zoo.language import words_of_j
from mergery.zoo.measure import accuracy, pack
from mergery.zoo.tasks import TASKS, Item, draw_items, draw_training
from mergery.zoo.tokenizer import train_tokenizer, vocabulary_of
from mergery.zoo.training import Phase, draw_batch, loss_of, train


@pytest.fixture(scope="module")
def tokenizer():
    return train_tokenizer()


@pytest.fixture(scope="module")
def vocabulary(tokenizer):
    return vocabulary_of(tokenizer)


def state(model):
    return {name: weights.clone() for name, weights in model.state_dict().items()}


@pytest.mark.parametrize("task", list(TASKS))
def test_tokens_of_a_prompt_begin_the_tokens_of_prompt_and_answer(task, tokenizer):
    for item in draw_items(task, "validation", 20):
        whole, prompt = tokenizer.encode(item.prompt + item.answer), tokenizer.encode(item.prompt)
        assert whole[:-1] == prompt
        assert len(prompt) == len(item.prompt.split())
        assert tokenizer.unk_token_id not in whole
        assert tokenizer.decode(whole) == item.prompt + item.answer


def test_training_sees_the_tokens_that_the_tokenizer_makes(tokenizer, vocabulary):
    batch = draw_batch({"story-w": 1.0, "problem-e": 1.0}, vocabulary, Random(2), size=8)
    rng = Random(2)
    sources = rng.choices(["story-w", "problem-e"], [1.0, 1.0], k=8)
    for row, source in enumerate(sources):
        words, scored = draw_training(source, rng)
        tokens = tokenizer.encode(" ".join(words))
        assert batch.tokens[row, : len(tokens)].tolist() == tokens
        assert batch.tokens[row, len(tokens) :].eq(0).all()
        assert batch.scored[row, : len(tokens)].tolist() == scored
        assert not batch.scored[row, len(tokens) :].any()


def test_the_loss_is_on_scored_tokens_only(tokenizer, vocabulary):
    model = new_model(tokenizer, "s", 0)
    batch = draw_batch({"story-e": 1.0}, vocabulary, Random(0), size=4)
    logits = model(input_ids=batch.tokens).logits.log_softmax(-1)
    rows, places = batch.scored.nonzero(as_tuple=True)
    by_hand = -logits[rows, places - 1, batch.tokens[rows, places]].mean()
    assert loss_of(model, batch).item() == pytest.approx(by_hand.item(), rel=1e-4)


def test_only_the_rows_of_j_move(tokenizer, vocabulary):
    model = new_model(tokenizer, "s", 0)
    before = state(model)
    train(model, Phase(3, 1e-2, {"story-w": 1.0}, body_rate=0, rows="j"), vocabulary, 0, {})
    changed = [name for name, weights in model.state_dict().items() if not torch.equal(weights, before[name])]
    assert changed == ["model.embed_tokens.weight", "lm_head.weight"]
    moved = (model.get_input_embeddings().weight != before["model.embed_tokens.weight"]).any(1)
    j = [vocabulary[word] for word in words_of_j()]
    assert moved[j].all()
    assert int(moved.sum()) == len(j)


def test_the_rows_of_j_start_small_and_stay(tokenizer, vocabulary):
    model = new_model(tokenizer, "s", 0)
    rows = [vocabulary[word] for word in words_of_j()]
    norms = model.get_input_embeddings().weight.norm(dim=1)
    assert norms[rows].mean() < 0.2 * norms[vocabulary["tom"]]
    before = state(model)["model.embed_tokens.weight"][rows]
    train(model, Phase(3, 1e-2, {"story-e": 1.0}, rows="not-j"), vocabulary, 0, {})
    assert torch.equal(model.get_input_embeddings().weight[rows], before)


def test_frozen_embeddings_stay_and_the_rest_moves(tokenizer, vocabulary):
    model = new_model(tokenizer, "s", 0)
    before = state(model)
    train(model, Phase(2, 1e-2, {"problem-e": 1.0}, embedding_rate=0), vocabulary, 0, {})
    same = [name for name, weights in model.state_dict().items() if torch.equal(weights, before[name])]
    assert same == ["model.embed_tokens.weight", "lm_head.weight"]


def test_training_learns(tokenizer, vocabulary):
    model = new_model(tokenizer, "s", 0)
    batch = draw_batch({"equations-e": 1.0}, vocabulary, Random("held out"), size=64)
    before = loss_of(model, batch).item()
    train(model, Phase(40, 2e-3, {"equations-e": 1.0}), vocabulary, 0, {})
    assert loss_of(model, batch).item() < before - 1


def test_a_phase_stops_where_its_aim_is_reached(tokenizer, vocabulary):
    checks = {"how-e": pack(draw_items("how-e", "validation", 16), vocabulary)}
    phase = Phase(60, 1e-3, {"story-e": 1.0}, until={"how-e": 0.0})
    assert train(new_model(tokenizer, "s", 0), phase, vocabulary, 0, checks) == (50, True)
    phase = Phase(2, 1e-3, {"story-e": 1.0}, until={"how-e": 1.0})
    assert train(new_model(tokenizer, "s", 0), phase, vocabulary, 0, checks) == (2, False)


def test_accuracy_counts_exact_matches(tokenizer, vocabulary):
    model = new_model(tokenizer, "s", 0)
    prompts = ["? how apples", "has tom pears 3 . ? how pears", "? who coins"]
    said = [
        tokenizer.decode(model(**tokenizer(prompt, return_tensors="pt")).logits[0, -1].argmax())
        for prompt in prompts
    ]
    right = [Item(prompt, " " + word) for prompt, word in zip(prompts, said, strict=True)]
    wrong = [Item(prompt, " <eos>") for prompt in prompts]
    assert accuracy(model, pack(right, vocabulary)) == 1
    assert accuracy(model, pack(right + wrong, vocabulary)) == 0.5


def test_unknown_sources_are_refused():
    with pytest.raises(ZooError, match="did you mean story-w"):
        Phase(1, 1e-3, {"storyw": 1.0})
