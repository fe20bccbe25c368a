"""Task vectors scaled by a rule: by depth, by their norms, beyond their end, or against another's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from mergery.methods.api import Fraction, Interval, NonNegative, PerModel, Real, each, merge_method
from mergery.methods.task_arithmetic import elected, trim
from mergery.methods.voting import elected_entries, summed
from mergery.stack import Chunk, Merged, Place, TaskVectors, Weights

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "chat_vector",
    "expo",
    "lines",
    "lines_ties",
    "metagpt",
    "task_analogy",
    "task_negation",
    "wise_ft",
]

_AUTOMATIC = -1.0
Start = Annotated[float, Interval(_AUTOMATIC, math.inf, (0.0, 1.0))]
Slope = Annotated[float, Interval(-math.inf, math.inf, (0.0, 1.0))]
Beyond = Annotated[float, Interval(-math.inf, math.inf, (0.0, 1.0))]


@merge_method("lines", paper="arXiv:2410.17146")
def lines(
    task_vectors: TaskVectors,
    *,
    weight: PerModel[Real] = each(1.0),
    alpha: Start = _AUTOMATIC,
    beta: Slope = 0.5,
) -> Merged:
    """Add task vectors, scaled up linearly from the first layer to the last (LiNeS).

    ``theta = theta_base + (alpha + beta l / (L - 1)) sum_k w_k tau_k`` in layer l of L, counted from 0
    (Wang et al., equation 3); outside the layers, and where there is one layer only, the scale is alpha.
    Shallow layers hold what is general and change least.

    Of one fine-tuned model the paper takes ``beta = 1 - alpha`` with alpha tuned in [0, 1]; of several,
    alpha by ``-1`` as below and beta tuned in (0, 1].

    Args:
        task_vectors: the models.
        weight: w_k.
        alpha: scale of the first layer. Below 0: ``|sum_k tau_k| / |sum_k w_k tau_k| / K``, sums of
            magnitudes over the whole model and over the K models whose weight is not zero: 1 / K where all
            weights are 1.
        beta: by how much the last layer's scale is larger.
    """
    if alpha < 0:
        used = [w for w in weight if w]
        alpha = 1.0 / max(len(used), 1)
        if any(w != 1 for w in used):
            alpha *= _ratio(task_vectors, _Magnitudes(weight))
    return task_vectors.weighted_sum(weight) * _scale(task_vectors.place, alpha, beta)


@merge_method("lines_ties", paper="arXiv:2410.17146")
def lines_ties(
    task_vectors: TaskVectors,
    *,
    weight: PerModel[Real] = each(1.0),
    density: PerModel[Fraction] = each(0.2),
    alpha: Start = _AUTOMATIC,
    beta: Slope = 0.5,
) -> Merged:
    """Merge by TIES, scaled up linearly from the first layer to the last (LiNeS on TIES).

    As ``lines`` with the merged vector of TIES (arXiv:2306.01708): the ``int(density n)`` largest changes of
    each model, counted within the whole model, the sign of ``sum_k w_k tau_k`` (an exact zero counts as
    plus), the weighted mean of the changes that have it. The paper tunes beta in [0.1, 1.5].

    Args:
        task_vectors: the models.
        weight: w_k, applied before the vote.
        density: share of the entries that each model keeps.
        alpha: scale of the first layer. Below 0: the sum of magnitudes of ``sum_k tau_k`` over that of the
            merged vector, over K, as in ``lines``.
        beta: by how much the last layer's scale is larger.
    """
    trimmed = trim(task_vectors, density, "model")
    if alpha < 0:
        used = sum(w != 0 for w in weight)
        alpha = _ratio(task_vectors, _Magnitudes(weight, trimmed.sparsity.floor)) / max(used, 1)
    merged = elected(trimmed, weight, normalize=True, divisor="magnitude")
    return merged * _scale(task_vectors.place, alpha, beta)


@merge_method("metagpt", paper="arXiv:2406.11385")
def metagpt(task_vectors: TaskVectors) -> Merged:
    """Add task vectors weighted by their squared norms (MetaGPT).

    ``theta = theta_base + sum_k lambda_k tau_k`` with ``lambda_k = |tau_k|^2 / sum_j |tau_j|^2``, Euclidean
    norms over the whole model (Zhou et al., section 4): the coefficients that minimise the mean difference
    of losses to the models, for task vectors that are orthogonal in a linearised network. They add up to 1;
    a model trained for longer gets more.

    Args:
        task_vectors: the models.
    """
    squares = task_vectors.model.total(_squares)
    total = float(squares.sum())
    return task_vectors.weighted_sum([float(square) / total if total > 0 else 0.0 for square in squares])


@merge_method("expo", paper="arXiv:2404.16792", models=(1, 1))
def expo(task_vectors: TaskVectors, *, alpha: Beyond = 0.3) -> Merged:
    """Go on in the direction of alignment training, beyond its end (ExPO, model extrapolation).

    ``theta = theta_aligned + alpha (theta_aligned - theta_base)`` (Zheng et al., section 2): the base is the
    model before alignment (SFT), the one model listed is the one after it (DPO, RLHF).

    Args:
        task_vectors: the aligned model.
        alpha: how far beyond; the authors choose from 0.1 to 0.5, and call 0.3 and 0.5 usually good.
    """
    return task_vectors.weighted_sum([1.0 + alpha])


@merge_method("chat_vector", paper="arXiv:2310.04799", models=(2, 2), ordered=True)
def chat_vector(task_vectors: TaskVectors, *, ratio: Real = 1.0) -> Merged:
    """Give a model for another language or domain the skills of a chat model (chat vector).

    ``theta = theta_target + ratio (theta_chat - theta_base)`` (Huang et al., section 3.2). The models are
    listed in this order: the chat model, then the target, which is the base trained further. A target with
    a larger vocabulary keeps it with ``tokenizer: {source: <the target>}``.

    Args:
        task_vectors: the chat model and the target.
        ratio: scale of the chat vector.
    """
    return task_vectors.weighted_sum((ratio, 1.0))


@merge_method("task_negation", paper="arXiv:2212.04089")
def task_negation(
    task_vectors: TaskVectors, *, weight: PerModel[NonNegative] = each(1.0), lambda_: NonNegative = 1.0
) -> Merged:
    """Subtract task vectors, to forget what the models were trained on (negation, unlearning).

    ``theta = theta_base - lambda sum_k w_k tau_k`` (Ilharco et al., section 3).

    Args:
        task_vectors: models trained on what is to be forgotten.
        weight: w_k.
        lambda_: scale of the whole difference; the paper tunes it on held-out data.
    """
    return task_vectors.weighted_sum(weight) * -lambda_


@merge_method("task_analogy", paper="arXiv:2212.04089", base="forbidden", models=(3, 3), ordered=True)
def task_analogy(weights: Weights, *, lambda_: Real = 1.0) -> Merged:
    """Carry a difference between two models over to a third: A is to B as C is to the result (analogy).

    ``theta = theta_C + lambda (theta_B - theta_A)``, the models listed as A, B, C (Ilharco et al., section 5,
    with lambda 1; the paper scales ``tau_C + tau_B - tau_A`` as a whole, which is ``task_arithmetic`` with
    weights -1, 1, 1).

    Args:
        weights: A, B and C.
        lambda_: scale of the difference.
    """
    return weights.weighted_sum((-lambda_, lambda_, 1.0))


@merge_method("wise_ft", paper="arXiv:2109.01903", models=(1, 1))
def wise_ft(task_vectors: TaskVectors, *, alpha: Fraction = 0.5) -> Merged:
    """Interpolate between the base and one fine-tuned model, for robustness (WiSE-FT).

    ``theta = (1 - alpha) theta_base + alpha theta_tuned`` (Wortsman et al., equation 1).

    Args:
        task_vectors: the fine-tuned model.
        alpha: 0 gives the base, 1 the fine-tuned model; 0.5 as the paper advises where nothing is known.
    """
    return task_vectors.weighted_sum([alpha])


def _scale(place: Place, alpha: float, beta: float) -> float:
    """LiNeS's factor of a tensor."""
    if place.layer is None or place.layers < 2:
        return alpha
    return alpha + beta * place.layer / (place.layers - 1)


def _ratio(task_vectors: TaskVectors, magnitudes: _Magnitudes) -> float:
    """The sum of magnitudes of the sum over that of the merged vector, 1 where that is zero."""
    whole, merged = task_vectors.model.total(magnitudes)
    return float(whole / merged) if merged > 0 else 1.0


def _squares(chunk: Chunk) -> Tensor:
    """Squared norms, ``(K,)`` float64."""
    return chunk.values.double().square().sum(1)


@dataclass(frozen=True)
class _Magnitudes:
    """Sums of magnitudes, ``(2,)`` float64: of the plain sum of task vectors, and of the merged one.

    Attributes:
        weight: one number a model; those of weight zero are left out of both.
        floor: with these, TIES with its mean; else the weighted sum.
    """

    weight: Sequence[float]
    floor: tuple[float, ...] | None = None

    def __call__(self, chunk: Chunk) -> Tensor:
        weight = chunk.column(tuple(self.weight))
        whole = summed(chunk.values * (weight != 0))
        merged = chunk.values * weight
        if self.floor is None:
            merged = summed(merged)
        else:
            kept = chunk.values.abs() >= chunk.column(self.floor)
            merged = elected_entries(merged * kept, weight.abs())
        sums = chunk.values.new_zeros(2).double()
        sums[0], sums[1] = whole.abs().double().sum(), merged.abs().double().sum()
        return sums
