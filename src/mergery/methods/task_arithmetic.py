"""Sums of task vectors, whole or sparsified, with or without a vote on signs.

Every method here is ``[sparsify each] -> [combine] -> times lambda``: ``task_arithmetic`` and
``dare_linear`` add, ``ties`` and ``dare_ties`` let the models vote on the sign of each entry first.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from mergery.methods.api import Fraction, PerModel, Real, each, merge_method
from mergery.stack import Combination, Merged, Sparse, TaskVectors

__all__ = ["added", "dare_linear", "dare_ties", "elected", "task_arithmetic", "ties", "trim"]


@merge_method("task_arithmetic", paper="arXiv:2212.04089", ignores=("density", "rescale", "int8_mask"))
def task_arithmetic(
    task_vectors: TaskVectors,
    *,
    weight: PerModel[Real] = each(1.0),
    normalize: bool = False,
    lambda_: Real = 1.0,
) -> Merged:
    """Add weighted differences from the base.

    ``theta = theta_base + lambda sum_k w_k tau_k`` (Ilharco et al., section 2). A negative weight takes
    a skill away.

    Args:
        task_vectors: the models.
        weight: w_k.
        normalize: divide by the sum of the weights (where it is not zero).
        lambda_: scale of the whole difference.
    """
    return added(task_vectors.dense, weight, normalize) * lambda_


@merge_method("ties", paper="arXiv:2306.01708", ignores=("int8_mask",), mergekit={"divisor": "signed"})
def ties(
    task_vectors: TaskVectors,
    *,
    weight: PerModel[Real] = each(1.0),
    density: PerModel[Fraction] = each(1.0),
    normalize: bool = True,
    rescale: bool = False,
    lambda_: Real = 1.0,
    scope: Literal["tensor", "model"] = "tensor",
    divisor: Literal["magnitude", "signed"] = "magnitude",
) -> Merged:
    """Trim small changes, elect a sign for each entry, average the models that agree with it (TIES).

    1. Trim (Yadav et al., section 4, step 1): each model keeps its ``int(density n)`` largest changes,
       counted within this tensor, or with ``scope: model`` within the whole model as the paper does;
       changes as large as the smallest one kept are kept too.
    2. Elect (step 2): the sign of ``sum_k w_k tau_k``; an exact zero counts as plus.
    3. Merge (step 3): the weighted sum of the changes with that sign, divided, with ``normalize``, by
       the weights of the models that contributed to the entry.

    Departs from the paper: trims within each tensor unless ``scope`` says otherwise, and weights the
    changes before the vote, as the tools in use do; ``density`` is 1.0 (no trimming) unless it is given,
    where the paper takes 0.2. Departs from mergekit for negative weights only: it divides by their signed
    sum (``divisor: signed``), which turns the change around; here by the sum of their magnitudes.

    Args:
        task_vectors: the models.
        weight: w_k, applied before the vote.
        density: share of the entries that each model keeps.
        normalize: average the contributions instead of adding them.
        rescale: scale each trimmed change back to the tensor's sum of magnitudes.
        lambda_: scale of the whole difference.
        scope: where the largest changes are counted.
        divisor: average by the weights' magnitudes, or by the weights as they are.
    """
    trimmed = trim(task_vectors, density, scope)
    if rescale:
        trimmed = trimmed.restored()
    return elected(trimmed, weight, normalize, divisor) * lambda_


@merge_method(
    "dare_linear",
    paper="arXiv:2311.03099",
    random=True,
    ignores=("int8_mask",),
    mergekit={"rescaling": "magnitude"},
)
def dare_linear(
    task_vectors: TaskVectors,
    *,
    weight: PerModel[Real] = each(1.0),
    density: PerModel[Fraction] = each(1.0),
    normalize: bool = False,
    rescale: bool = True,
    lambda_: Real = 1.0,
    rescaling: Literal["density", "magnitude"] = "density",
) -> Merged:
    """Drop random changes, rescale the rest, add them (DARE with task arithmetic).

    Each change is kept with probability ``density`` and divided by it (Yu et al., section 3.2), so that
    its expectation stays. Departs from mergekit: it rescales to the tensor's sum of magnitudes
    (``rescaling: magnitude``), which is nearly the same in large tensors and unbounded in small ones.

    Args:
        task_vectors: the models.
        weight: w_k.
        density: probability of keeping a change; 0 drops all.
        normalize: divide by the sum of the weights (where it is not zero).
        rescale: scale up the changes kept.
        lambda_: scale of the whole difference.
        rescaling: divide by the density, or restore the tensor's sum of magnitudes.
    """
    return added(_dropped(task_vectors, density, rescale, rescaling), weight, normalize) * lambda_


@merge_method(
    "dare_ties",
    paper="arXiv:2311.03099",
    random=True,
    ignores=("int8_mask",),
    mergekit={"rescaling": "magnitude", "divisor": "signed"},
)
def dare_ties(
    task_vectors: TaskVectors,
    *,
    weight: PerModel[Real] = each(1.0),
    density: PerModel[Fraction] = each(1.0),
    normalize: bool = False,
    rescale: bool = True,
    lambda_: Real = 1.0,
    rescaling: Literal["density", "magnitude"] = "density",
    divisor: Literal["magnitude", "signed"] = "magnitude",
) -> Merged:
    """Drop random changes, rescale the rest, elect a sign for each entry (DARE with TIES).

    DARE (Yu et al., section 3.2) in the place of trimming, then the vote of TIES (arXiv:2306.01708,
    section 4): the combination of the evolved Japanese-maths model (arXiv:2403.13187).

    Args:
        task_vectors: the models.
        weight: w_k, applied before the vote.
        density: probability of keeping a change; 0 drops all.
        normalize: average the contributions instead of adding them.
        rescale: scale up the changes kept.
        lambda_: scale of the whole difference.
        rescaling: divide by the density, or restore the tensor's sum of magnitudes.
        divisor: average by the weights' magnitudes, or by the weights as they are.
    """
    return elected(_dropped(task_vectors, density, rescale, rescaling), weight, normalize, divisor) * lambda_


def trim(task_vectors: TaskVectors, density: Sequence[float], scope: str = "tensor") -> Sparse:
    """Keep each model's largest changes, counted within the tensor or the whole model."""
    within = task_vectors.model if scope == "model" else task_vectors
    counts = [int(share * within.elements) for share in density]
    return task_vectors.dense.band(within.kth_magnitude(counts))


def _dropped(task_vectors: TaskVectors, density: Sequence[float], rescale: bool, rescaling: str) -> Sparse:
    """Drop random changes, and rescale the rest on demand."""
    dropped = task_vectors.dense.drop(density)
    if not rescale:
        return dropped
    return dropped.restored() if rescaling == "magnitude" else dropped.divided_by_probability()


def added(sparse: Sparse, weight: Sequence[float], normalize: bool) -> Combination:
    """The weighted sum, divided by the sum of the weights on demand (where it is not zero)."""
    merged = sparse.weighted_sum(weight)
    return merged.divided(sum(weight)) if normalize else merged


def elected(sparse: Sparse, weight: Sequence[float], normalize: bool, divisor: str) -> Combination:
    """The weighted sum over the models that agree in sign, divided by their weights on demand."""
    if not normalize:
        return sparse.elect(weight)
    return sparse.elect(weight, shares=[abs(w) if divisor == "magnitude" else w for w in weight])
