"""Merges that keep what several tasks agree to use, or what one task needs (TALL masks)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from mergery.methods.api import Fraction, Interval, PerModel, Real, each, merge_method
from mergery.methods.voting import chosen, elected_entries, summed
from mergery.stack import Chunk, Merged, TaskVectors

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["consensus_ta", "consensus_ties", "tall_mask"]

Strictness = Annotated[float, Interval(0.0, math.inf, (0.2, 0.6))]
Agreement = Annotated[int, Interval(0, math.inf, (1, 3))]


@merge_method("consensus_ta", paper="arXiv:2405.07813")
def consensus_ta(
    task_vectors: TaskVectors,
    *,
    weight: PerModel[Real] = each(1.0),
    tall_mask_lambda: PerModel[Strictness] = each(0.2),
    k: Agreement = 2,
    lambda_: Real = 1.0,
) -> Merged:
    """Add task vectors, and keep only the entries that at least k tasks need (Consensus Task Arithmetic).

    With ``d_i = w_i tau_i`` and ``tau = sum_i d_i``, task i needs the entries where
    ``|d_i| > tall_mask_lambda_i |tau - d_i|`` (Wang et al., equation 5); ``theta = theta_base + lambda tau``
    where at least k tasks do, and ``theta_base`` elsewhere (section 4.2). k = 2 drops what no task needs and
    what one alone does. A change of zero needs nothing, so a model of weight 0 has no vote.

    The paper chooses ``tall_mask_lambda`` for each task from 0.2, 0.3, … 0.6, and ``lambda``, on held-out
    data; MergeBench takes 0.2 throughout.

    Args:
        task_vectors: the models.
        weight: w_i.
        tall_mask_lambda: how much a task's change must weigh against the others' to be needed.
        k: how many tasks must need an entry; above the number of models nothing is left.
        lambda_: scale of the whole difference.
    """
    return task_vectors.map(_Consensus(_Shared(weight), tall_mask_lambda, k)) * lambda_


@merge_method("consensus_ties", paper="arXiv:2405.07813")
def consensus_ties(
    task_vectors: TaskVectors,
    *,
    weight: PerModel[Real] = each(1.0),
    density: PerModel[Fraction] = each(0.2),
    tall_mask_lambda: PerModel[Strictness] = each(0.2),
    k: Agreement = 2,
    lambda_: Real = 1.0,
    scope: Literal["tensor", "model"] = "model",
) -> Merged:
    """Merge by TIES, and keep only the entries that at least k tasks need (Consensus TIES).

    As ``consensus_ta`` with ``tau`` by TIES (arXiv:2306.01708): each model keeps its ``int(density n)``
    largest changes, counted within the whole model, and the weighted changes that agree with the sign of
    their sum (an exact zero counts as plus) are added. Masks compare the changes before trimming, as the
    authors' code does.

    Args:
        task_vectors: the models.
        weight: w_i, applied before the vote.
        density: share of the entries that each model keeps.
        tall_mask_lambda: how much a task's change must weigh against the others' to be needed.
        k: how many tasks must need an entry; above the number of models nothing is left.
        lambda_: scale of the whole difference.
        scope: where the largest changes are counted.
    """
    shared = _Shared(weight, _floors(task_vectors, density, scope))
    return task_vectors.map(_Consensus(shared, tall_mask_lambda, k)) * lambda_


@merge_method("tall_mask", paper="arXiv:2405.07813")
def tall_mask(
    task_vectors: TaskVectors,
    *,
    weight: PerModel[Real] = each(1.0),
    task: PerModel[bool] = each(False),
    tall_mask_lambda: PerModel[Strictness] = each(0.2),
) -> Merged:
    """Take one task out of a multi-task sum: the part of it that the task needs (TALL mask).

    ``theta = theta_base + m_i tau`` with ``tau`` and the mask ``m_i`` of ``consensus_ta`` (Wang et al.,
    section 4.1): the model that the paper serves for task i from the sum and one bit an entry. Without a
    chosen task all of ``tau`` stays.

    Args:
        task_vectors: the models.
        weight: w_i.
        task: true for the model whose task is wanted.
        tall_mask_lambda: how much a task's change must weigh against the others' to be needed.

    Raises:
        RecipeError: if several models are chosen.
    """
    place = chosen(task, "tall_mask", "task")
    if place is None:
        return task_vectors.weighted_sum(weight)
    return task_vectors.map(_Localized(_Shared(weight), tall_mask_lambda, place))


@dataclass(frozen=True)
class _Shared:
    """The multi-task vector: a weighted sum, or with floors TIES.

    Attributes:
        weight: one number a model.
        floor: smallest magnitude that each model keeps.
    """

    weight: tuple[float, ...]
    floor: tuple[float, ...] | None = None

    def __call__(self, chunk: Chunk) -> tuple[Tensor, Tensor]:
        """Each model's weighted changes, ``(K, m)``, and the multi-task vector, ``(m,)``."""
        changes = chunk.values * chunk.column(self.weight)
        if self.floor is None:
            return changes, summed(changes)
        kept = chunk.values.abs() >= chunk.column(self.floor)
        return changes, elected_entries(changes * kept)


@dataclass(frozen=True)
class _Consensus:
    """The multi-task vector where at least k tasks need it."""

    shared: _Shared
    strictness: tuple[float, ...]
    k: int

    def __call__(self, chunk: Chunk) -> Tensor:
        changes, merged = self.shared(chunk)
        return merged * (_needed(chunk, changes, merged, self.strictness).sum(0) >= self.k)


@dataclass(frozen=True)
class _Localized:
    """The multi-task vector where one task needs it."""

    shared: _Shared
    strictness: tuple[float, ...]
    place: int

    def __call__(self, chunk: Chunk) -> Tensor:
        changes, merged = self.shared(chunk)
        return merged * _needed(chunk, changes, merged, self.strictness)[self.place]


def _needed(chunk: Chunk, changes: Tensor, merged: Tensor, strictness: tuple[float, ...]) -> Tensor:
    """TALL masks, ``(K, m)``."""
    return changes.abs() > chunk.column(strictness) * (merged - changes).abs()


def _floors(task_vectors: TaskVectors, density: Sequence[float], scope: str) -> tuple[float, ...]:
    """The magnitude of the smallest change that each model keeps."""
    within = task_vectors.model if scope == "model" else task_vectors
    return within.kth_magnitude([int(share * within.elements) for share in density])
