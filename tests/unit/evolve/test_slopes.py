"""Gradients of knobs against differences of losses, computed by scoring merges anew."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from mergery.engine import LiveMerge
from mergery.evaluate import get_evaluator, load_items
from mergery.evolve import SearchSpace
from mergery.evolve.slopes import Slopes


@pytest.fixture
def items(search):
    return load_items(search["task"]["validation"])


def smooth_loss(live, space, genome, scorer, weights, kind):
    """Minus the weighted sum of the answers' probabilities (or likelihoods), with no gradient anywhere."""
    model = live.build(replace(space.recipe(genome), out_dtype="float32"))
    scores = scorer.score(model)
    values = scores.outcomes if kind == "likelihood" else scores.smooth
    return -float((values.astype(np.float64) * weights).sum())


@pytest.mark.parametrize("kind", ["likelihood", "exact_match"])
@pytest.mark.parametrize("method", ["task_arithmetic", "slerp", "ties"])
def test_a_gradient_is_what_the_loss_changes_by(search, items, method, kind):
    recipe = dict(search["recipe"]) | {"merge_method": method}
    if method == "slerp":
        recipe |= {"models": [recipe["models"][0]["model"]], "parameters": {"t": {"search": [0.0, 1.0]}}}
        recipe["models"] = [{"model": recipe["models"][0]}]
    elif method == "ties":
        # without trimming nothing jumps but signs, and those only at some places
        recipe["parameters"] = {"density": 1.0, "lambda": {"search": [0.2, 1.2], "start": 0.7}}
        recipe["models"] = [{"model": entry["model"]} for entry in recipe["models"]]
    space = SearchSpace.open(recipe)
    genome = space.decode(tuple(0.4 + 0.02 * place for place in range(len(space.names))))
    live = LiveMerge(space.recipe(genome))
    scorer = get_evaluator(kind).prepare(live.tokenizer, items)
    weights = np.linspace(0.5, 1.5, len(items)) / len(items)
    loss, gradient = Slopes(live, space).at(genome, lambda model: scorer.backward(model, weights))

    assert loss == pytest.approx(smooth_loss(live, space, genome, scorer, weights, kind), rel=1e-5)
    step = 2e-3
    for place, (low, high) in enumerate(space.domains):
        ends = []
        for sign in (1.0, -1.0):
            moved = list(genome)
            moved[place] += sign * step * (high - low)
            ends.append(smooth_loss(live, space, tuple(moved), scorer, weights, kind))
        expected = (ends[0] - ends[1]) / (2 * step)
        assert gradient[place] == pytest.approx(expected, rel=0.05, abs=2e-3 * max(map(abs, gradient)))


def test_the_model_is_left_as_it_was(search, items):
    space = SearchSpace.open(search["recipe"])
    live = LiveMerge(space.recipe(space.decode(space.start)))
    scorer = get_evaluator("exact_match").prepare(live.tokenizer, items)
    weights = np.full(len(items), 1 / len(items))
    Slopes(live, space).at(space.decode(space.start), lambda model: scorer.backward(model, weights))
    assert all(not parameter.requires_grad for parameter in live.model.parameters())
    assert all(parameter.grad is None for parameter in live.model.parameters())


def test_a_choice_of_methods_has_no_slope(search, items):
    recipe = dict(search["recipe"]) | {"merge_method": {"search": ["task_arithmetic", "ties"]}}
    space = SearchSpace.open(recipe)
    genome = space.decode(space.start)
    live = LiveMerge(space.recipe(genome))
    scorer = get_evaluator("likelihood").prepare(live.tokenizer, items)
    weights = np.full(len(items), 1 / len(items))
    _, gradient = Slopes(live, space).at(genome, lambda model: scorer.backward(model, weights))
    assert gradient[0] == 0.0
    assert any(gradient[1:])


def test_gradients_do_not_depend_on_batches(search, items):
    """One batch for all items, or one for each, gives the same sums."""
    from mergery.evaluate import soft

    space = SearchSpace.open(search["recipe"])
    live = LiveMerge(space.recipe(space.decode(space.start)))
    scorer = get_evaluator("exact_match").prepare(live.tokenizer, items)
    weights = np.full(len(items), 1 / len(items))
    found = []
    for tokens in (1, 100_000):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(soft, "_CPU_TOKENS", tokens)
            found.append(
                Slopes(live, space).at(
                    space.decode(space.start), lambda model: scorer.backward(model, weights)
                )
            )
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-5)
    torch.testing.assert_close(torch.tensor(found[0][1]), torch.tensor(found[1][1]), rtol=1e-4, atol=1e-6)
