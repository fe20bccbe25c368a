"""One round of training in several places: averages of workers' models, with or without outer momentum."""

from __future__ import annotations

from collections.abc import Sequence

from mergery.errors import RecipeError
from mergery.methods.api import Fraction, NonNegative, PerModel, Real, each, merge_method
from mergery.methods.voting import chosen
from mergery.stack import Merged, TaskVectors, Weights

__all__ = ["diloco", "fedavg", "uniform_soup"]


@merge_method("uniform_soup", paper="arXiv:2203.05482")
def uniform_soup(weights: Weights) -> Merged:
    """Average models with equal weights (uniform soup).

    ``theta = 1/K sum_k theta_k`` (Wortsman et al., section 2): ``linear`` where no weights are given. A base
    is not used; to average it in, list it.

    Args:
        weights: the models.
    """
    return weights.weighted_sum([1.0] * weights.count).divided(float(weights.count))


@merge_method("fedavg", paper="arXiv:1602.05629")
def fedavg(weights: Weights, *, examples: PerModel[NonNegative] = each(1.0)) -> Merged:
    """Average clients' models by their numbers of examples (federated averaging, FedAvg).

    ``theta = sum_k n_k / n theta_k``, n the sum of the n_k (McMahan et al., algorithm 1): the server's step
    at the end of a round.

    Args:
        weights: the clients' models.
        examples: n_k, how many examples the client trained on.

    Raises:
        RecipeError: if there are no examples at all.
    """
    return weights.weighted_sum(_shares(examples, "fedavg"))


@merge_method("diloco", paper="arXiv:2311.08105")
def diloco(
    task_vectors: TaskVectors,
    *,
    examples: PerModel[NonNegative] = each(1.0),
    previous: PerModel[bool] = each(False),
    lr: Real = 0.7,
    momentum: Fraction = 0.9,
) -> Merged:
    """Step from the last global model towards the workers' mean, with Nesterov momentum (DiLoCo).

    One round is one recipe (Douillard et al., algorithm 1, lines 11 to 14). The base is the global model
    ``theta_t`` that the workers started from, the models are what they made of it:

    - ``Delta_t = theta_t - sum_k n_k / n theta_k``, the outer gradient;
    - ``v_t = momentum v_{t-1} + Delta_t``;
    - ``theta_{t+1} = theta_t - lr (Delta_t + momentum v_t)``, as SGD with Nesterov momentum does it.

    The first round needs nothing else (``v`` is zero). From the second on, the momentum comes as a model:
    what the last round would have made without momentum, ``y_t = theta_{t-1} - lr Delta_{t-1}``, listed
    with ``previous: true``. For the same steps are ``y_{t+1} = theta_t - lr Delta_t`` and
    ``theta_{t+1} = y_{t+1} + momentum (y_{t+1} - y_t)``. It is the result of the last round's recipe with
    ``momentum: 0``, merged beside it, or that recipe itself, nested.

    With ``lr: 1`` and ``momentum: 0`` this is ``fedavg``.

    Args:
        task_vectors: the workers' models, and from the second round on ``y_t``.
        examples: n_k; the paper's mean is the plain one.
        previous: true for the one model that is ``y_t``; its ``examples`` do not count.
        lr: the outer learning rate; the same in all rounds.
        momentum: of the outer optimiser; the same in all rounds.

    Raises:
        RecipeError: if several models are called previous, or no worker is left.
    """
    last = chosen(previous, "diloco", "previous")
    shares = _shares([0.0 if place == last else n for place, n in enumerate(examples)], "diloco")
    step = [lr * (1.0 + momentum) * share for share in shares]
    return task_vectors.weighted_sum([-momentum if place == last else w for place, w in enumerate(step)])


def _shares(examples: Sequence[float], method: str) -> list[float]:
    """Each model's part of all examples."""
    total = sum(examples)
    if not total > 0:
        raise RecipeError(
            f"{method}: no model has any examples",
            fix="give a model examples of more than 0, or leave them out",
        )
    return [n / total for n in examples]
