"""Every registered evaluator keeps the same promises, on real tiny models."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM

from mergery.evaluate import Items, evaluate, evaluator_names, get_evaluator
from mergery.evaluate.items import Item

ITEMS = Items(
    "items",
    tuple(
        Item(prompt, answer, line=number)
        for number, (prompt, answer) in enumerate(
            [
                ("the cat sees", " the dog"),
                ("a dog takes one bird .", " two"),
                ("b", " c d"),
                ("the bird has three dog and four cat . ?", " five . ?"),
                ("one two three", " four"),
            ],
            start=1,
        )
    ),
)


@pytest.fixture
def model(make_model):
    return AutoModelForCausalLM.from_pretrained(make_model("m")).eval()


@pytest.fixture(params=evaluator_names())
def name(request):
    return request.param


def test_one_finite_outcome_an_item_in_item_order(name, model, tokenizer):
    scores = evaluate(model, ITEMS, evaluator=name, tokenizer=tokenizer)
    assert scores.outcomes.shape == (len(ITEMS),)
    assert scores.outcomes.dtype == np.float32
    assert np.isfinite(scores.outcomes).all()
    assert scores.hashes == tuple(item.hash for item in ITEMS)
    back = Items("reversed", ITEMS.entries[::-1])
    turned = evaluate(model, back, evaluator=name, tokenizer=tokenizer)
    np.testing.assert_allclose(turned.outcomes[::-1], scores.outcomes, rtol=1e-5)


def test_an_item_scores_the_same_alone(name, model, tokenizer):
    together = evaluate(model, ITEMS, evaluator=name, tokenizer=tokenizer)
    for index, item in enumerate(ITEMS):
        alone = evaluate(model, Items("one", (item,)), evaluator=name, tokenizer=tokenizer)
        assert alone.outcomes[0] == pytest.approx(together.outcomes[index], rel=1e-5)


def test_equal_calls_give_equal_bytes_and_leave_the_model_alone(name, model, tokenizer):
    before = {key: value.clone() for key, value in model.state_dict().items()}
    threads = torch.get_num_threads()
    first, second = (evaluate(model, ITEMS, evaluator=name, tokenizer=tokenizer) for _ in range(2))
    assert first.outcomes.tobytes() == second.outcomes.tobytes()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.get_num_threads() == threads


def test_the_first_metric_is_what_summarise_makes_of_the_outcomes(name, model, tokenizer):
    scores = evaluate(model, ITEMS, evaluator=name, tokenizer=tokenizer)
    evaluator = get_evaluator(name)
    again = evaluator.summarise(scores.outcomes, scores.hashes)
    assert again.metrics == scores.metrics
    assert scores.metrics[0].direction == evaluator.direction
    assert scores.value == scores.metrics[0].value
    assert not scores.outcomes.flags.writeable


def test_a_broken_model_scores_nan(name, model, tokenizer):
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    scores = evaluate(model, ITEMS, evaluator=name, tokenizer=tokenizer)
    assert np.isnan(scores.outcomes).all()
    assert np.isnan(scores.value)


def test_proportions_are_zeros_and_ones(name, model, tokenizer):
    scores = evaluate(model, ITEMS, evaluator=name, tokenizer=tokenizer)
    if get_evaluator(name).proportion:
        assert set(scores.outcomes.tolist()) <= {0.0, 1.0}


def test_a_directory_scores_as_the_model_in_it(name, model, tokenizer, make_model):
    directory = make_model("m2")
    scores = evaluate(directory, ITEMS, evaluator=name)
    loaded = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32).eval()
    assert (
        scores.outcomes.tobytes()
        == evaluate(loaded, ITEMS, evaluator=name, tokenizer=tokenizer).outcomes.tobytes()
    )
