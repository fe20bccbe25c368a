"""Sums of task vectors, whole or sparsified, with or without a vote on signs.

Every method here is ``[sparsify each] -> [combine] -> times lambda``: ``task_arithmetic`` and
``dare_linear`` add, ``ties`` and ``dare_ties`` let the models vote on the sign of each entry first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mergery.methods.api import Fraction, PerModel, Real, each, merge_method
from mergery.methods.stack import TaskVectors, weighted_sum

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

__all__ = ["dare_linear", "dare_ties", "task_arithmetic", "ties"]

_SMALLEST_DIVISOR = 1e-8


@merge_method("task_arithmetic", paper="arXiv:2212.04089", ignores=("density", "rescale", "int8_mask"))
def task_arithmetic(
    task_vectors: TaskVectors,
    *,
    weight: PerModel[Real] = each(1.0),
    normalize: bool = False,
    lambda_: Real = 1.0,
) -> Tensor:
    """Add weighted differences from the base.

    ``theta = theta_base + lambda sum_k w_k tau_k`` (Ilharco et al., section 2). A negative weight takes
    a skill away.

    Args:
        task_vectors: ``(K, n)``.
        weight: w_k.
        normalize: divide by the sum of the weights (where it is not zero).
        lambda_: scale of the whole difference.
    """
    return _total(task_vectors.values, weight, normalize) * lambda_


@merge_method("ties", paper="arXiv:2306.01708", ignores=("int8_mask",))
def ties(
    task_vectors: TaskVectors,
    *,
    weight: PerModel[Real] = each(1.0),
    density: PerModel[Fraction] = each(1.0),
    normalize: bool = True,
    rescale: bool = False,
    lambda_: Real = 1.0,
) -> Tensor:
    """Trim small changes, elect a sign for each entry, average the models that agree with it (TIES).

    1. Trim (Yadav et al., section 4, step 1): each model keeps its ``int(density n)`` largest changes,
       counted within this tensor; changes as large as the smallest one kept are kept too.
    2. Elect (step 2): the sign of ``sum_k w_k tau_k``; an exact zero counts as plus.
    3. Merge (step 3): the weighted sum of the changes with that sign, divided, with ``normalize``, by
       the weights of the models that contributed to the entry.

    Departs from the paper: trims within each tensor, where the paper trims within the whole model, and
    weights the changes before the vote, as the tools in use do; ``density`` is 1.0 (no trimming) unless
    it is given, where the paper takes 0.2. Departs from mergekit for negative weights only: it divides
    by their signed sum, which turns the change around; here by the sum of their magnitudes.

    Args:
        task_vectors: ``(K, n)``.
        weight: w_k, applied before the vote.
        density: share of the entries that each model keeps.
        normalize: average the contributions instead of adding them.
        rescale: scale each trimmed change back to its sum of magnitudes.
        lambda_: scale of the whole difference.
    """
    trimmed = _trim(task_vectors, density)
    if rescale:
        trimmed = _restore_l1(trimmed, task_vectors.values)
    return _elect(trimmed, weight, normalize) * lambda_


@merge_method("dare_linear", paper="arXiv:2311.03099", random=True, ignores=("int8_mask",))
def dare_linear(
    task_vectors: TaskVectors,
    *,
    weight: PerModel[Real] = each(1.0),
    density: PerModel[Fraction] = each(1.0),
    normalize: bool = False,
    rescale: bool = True,
    lambda_: Real = 1.0,
) -> Tensor:
    """Drop random changes, rescale the rest, add them (DARE with task arithmetic).

    Each change is kept with probability ``density`` and divided by it (Yu et al., section 3.2), so that
    its expectation stays. Departs from mergekit: it rescales to the tensor's sum of magnitudes, which
    is nearly the same in large tensors and unbounded in small ones.

    Args:
        task_vectors: ``(K, n)``.
        weight: w_k.
        density: probability of keeping a change; 0 drops all.
        normalize: divide by the sum of the weights (where it is not zero).
        rescale: divide the changes kept by ``density``.
        lambda_: scale of the whole difference.
    """
    return _total(_drop(task_vectors, density, rescale), weight, normalize) * lambda_


@merge_method("dare_ties", paper="arXiv:2311.03099", random=True, ignores=("int8_mask",))
def dare_ties(
    task_vectors: TaskVectors,
    *,
    weight: PerModel[Real] = each(1.0),
    density: PerModel[Fraction] = each(1.0),
    normalize: bool = False,
    rescale: bool = True,
    lambda_: Real = 1.0,
) -> Tensor:
    """Drop random changes, rescale the rest, elect a sign for each entry (DARE with TIES).

    DARE (Yu et al., section 3.2) in the place of trimming, then the vote of TIES (arXiv:2306.01708,
    section 4): the combination of the evolved Japanese-maths model (arXiv:2403.13187).

    Args:
        task_vectors: ``(K, n)``.
        weight: w_k, applied before the vote.
        density: probability of keeping a change; 0 drops all.
        normalize: average the contributions instead of adding them.
        rescale: divide the changes kept by ``density``.
        lambda_: scale of the whole difference.
    """
    return _elect(_drop(task_vectors, density, rescale), weight, normalize) * lambda_


def _trim(task_vectors: TaskVectors, density: Sequence[float]) -> Tensor:
    """Zero all but each model's largest changes, ``(K, n)``."""
    counts = [int(share * task_vectors.elements) for share in density]
    if min(counts) == task_vectors.elements:
        return task_vectors.values
    kept = task_vectors.values.abs() >= task_vectors.kth_magnitude(counts)
    return task_vectors.values * kept


def _drop(task_vectors: TaskVectors, density: Sequence[float], rescale: bool) -> Tensor:
    """Zero random changes and divide the rest by the probability of being kept, ``(K, n)``."""
    if min(density) == 1.0:
        return task_vectors.values
    kept = task_vectors.uniform() < task_vectors.column(density)
    dropped = task_vectors.values * kept
    if not rescale:
        return dropped
    return dropped.mul_(task_vectors.column([1.0 / share if share else 0.0 for share in density]))


def _restore_l1(sparse: Tensor, dense: Tensor) -> Tensor:
    """Scale each row of ``sparse`` to the sum of magnitudes of ``dense``; rows of zeros stay."""
    before = dense.abs().double().sum(1, keepdim=True)
    after = sparse.abs().double().sum(1, keepdim=True)
    factor = (before / after).where(after > 0, after.new_ones(1))
    return sparse * factor.to(sparse.dtype)


def _total(rows: Tensor, weight: Sequence[float], normalize: bool) -> Tensor:
    """Weighted sum of the rows, divided by the sum of the weights on demand, ``(n,)``."""
    merged = weighted_sum(rows, weight)
    divisor = sum(weight)
    return merged / divisor if normalize and abs(divisor) >= _SMALLEST_DIVISOR else merged


def _elect(rows: Tensor, weight: Sequence[float], normalize: bool) -> Tensor:
    """Weighted sum (or average) of the entries whose sign has the weighted majority, ``(n,)``."""
    majority = weighted_sum(rows, weight) >= 0
    merged = rows.new_zeros(rows.shape[1])
    divisor = rows.new_zeros(rows.shape[1])
    for row, factor in zip(rows, weight, strict=True):
        change = row * factor
        agrees = (change > 0).where(majority, change < 0)
        merged += change * agrees
        divisor += agrees * abs(factor)
    if not normalize:
        return merged
    return merged / divisor.where(divisor > 0, divisor.new_ones(1))
