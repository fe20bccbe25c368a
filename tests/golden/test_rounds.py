"""Soups and rounds of training in several places."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mergery.errors import RecipeError

N = 60


@pytest.fixture(scope="module")
def models() -> np.ndarray:
    return np.random.default_rng(3).normal(size=(3, N)).astype(np.float32)


def agree(got, expected) -> None:
    np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-6)


def test_uniform_soup_is_the_mean(models, merge):
    agree(merge("uniform_soup", models), models.astype(np.float64).mean(0))


def test_fedavg_weighs_by_examples(models, merge):
    examples = (100, 0, 250)
    expected = [sum(n * float(x) for n, x in zip(examples, e, strict=True)) / 350 for e in models.T]
    agree(merge("fedavg", models, examples=examples), expected)
    agree(merge("fedavg", models), models.astype(np.float64).mean(0))


def outer_sgd(start: np.ndarray, rounds, lr: float, momentum: float) -> list[np.ndarray]:
    """What torch's own optimiser makes of the workers' mean differences, in float64."""
    model = torch.nn.Parameter(torch.from_numpy(start.astype(np.float64)))
    optimiser = torch.optim.SGD([model], lr=lr, momentum=momentum, nesterov=True)
    reached = []
    for drift, share in rounds:
        workers = model.detach() + torch.from_numpy(drift)
        model.grad = model.detach() - (torch.from_numpy(share)[:, None] * workers).sum(0)
        optimiser.step()
        reached.append(model.detach().numpy().copy())
    return reached


@pytest.mark.parametrize("examples", [(1, 1, 1), (5, 1, 2)])
@pytest.mark.parametrize(("lr", "momentum"), [(0.7, 0.9), (1.0, 0.2), (0.3, 0.5)])
def test_diloco_is_sgd_with_nesterov_momentum_round_after_round(merge, lr, momentum, examples):
    generator = np.random.default_rng(5)
    start = generator.normal(size=N).astype(np.float32)
    share = np.array(examples) / sum(examples)
    rounds = [(0.1 * generator.normal(size=(3, N)), share) for _ in range(5)]
    settings = {"lr": lr, "momentum": momentum}
    current, previous = start, None
    for (drift, _), expected in zip(rounds, outer_sgd(start, rounds, lr, momentum), strict=True):
        workers = current + drift
        stepped = merge("diloco", workers, current, examples=examples, lr=lr, momentum=0.0)
        if previous is None:
            following = merge("diloco", workers, current, examples=examples, **settings)
        else:
            # listed between the workers: a place means nothing, the switch does
            models = np.concatenate([workers[:1], previous[None], workers[1:]])
            counts = [examples[0], 7, *examples[1:]]
            marks = [False, True, False, False]
            following = merge("diloco", models, current, examples=counts, previous=marks, **settings)
        agree(following, expected)
        current, previous = following, stepped


def test_diloco_without_momentum_at_full_rate_is_fedavg(models, merge):
    base = np.random.default_rng(8).normal(size=N)
    got = merge("diloco", models, base, examples=[1, 2, 3], lr=1.0, momentum=0.0)
    agree(got, merge("fedavg", models, examples=[1, 2, 3]))


@pytest.mark.parametrize(
    ("method", "given", "says"),
    [
        ("fedavg", {"examples": 0}, "fedavg: no model has any examples"),
        ("diloco", {"previous": True}, "diloco: previous is on for 3 models"),
        ("diloco", {"previous": [True, False, False], "examples": [1, 0, 0]}, "no model has any examples"),
    ],
)
def test_a_round_needs_workers(models, merge, method, given, says):
    with pytest.raises(RecipeError, match=says):
        merge(method, models, np.zeros(N) if method == "diloco" else None, **given)
