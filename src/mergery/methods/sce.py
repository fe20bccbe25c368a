"""Select, calculate, erase: weights from the size of the changes that tell the models apart."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mergery.methods.api import Fraction, NonNegative, merge_method
from mergery.stack import Merged, TaskVectors

if TYPE_CHECKING:
    from torch import Tensor

    from mergery.stack import Chunk

__all__ = ["sce"]


@merge_method("sce", paper="arXiv:2408.07990", ignores=("int8_mask",), mergekit={"floor": 1e-6})
def sce(
    task_vectors: TaskVectors,
    *,
    select_topk: Fraction = 1.0,
    selection: Literal["changes", "weights"] = "changes",
    floor: NonNegative = 0.0,
) -> Merged:
    """Weigh models by the size of their most distinctive changes, erase minority signs (SCE).

    1. Select: the ``int(select_topk nnz)`` entries of the tensor whose variance over
       the models is largest, nnz being the number of those with any; entries that vary as much as the
       last one selected are selected too, and 1 selects all, varying or not.
    2. Calculate: ``w_k = mean(tau_k^2) / sum_j mean(tau_j^2)`` over the selection.
    3. Erase: at each entry the models whose sign is not that of ``sum_k tau_k`` (unweighted; an exact
       zero counts as plus) drop out, and the rest are averaged with the weights w.

    Departs from the paper's own code, as mergekit does: there the selection enters the weights only
    (``selection: weights``), here the entries that are not selected keep the base's value too. Departs
    from mergekit: it weighs all models the same where the squares sum to less than 1e-6, which those of
    ordinary fine-tunes do, and takes the weights at an entry to sum to no less (``floor: 1e-6``).

    Args:
        task_vectors: the models.
        select_topk: share of the entries that vary to select.
        selection: whether it cuts the changes themselves, or only decides on the weights.
        floor: where the mean squares sum to less than this all weights are the same, and the weights of
            an entry are taken to sum to no less than this.
    """
    threshold = _threshold(task_vectors, select_topk)
    weight = _weights(task_vectors, threshold, floor)
    cut = threshold if selection == "changes" else 0.0
    return task_vectors.map(_Elected(weight, cut, floor))


def _threshold(task_vectors: TaskVectors, select_topk: float) -> float:
    """The deviation from which on entries are selected; 0 selects all, infinity none."""
    if select_topk >= 1:
        return 0.0
    count = int(select_topk * float(task_vectors.total(_varying)))
    if count == 0:
        return math.inf
    return task_vectors.kth_value(_deviation, (task_vectors.elements - count,))[0]


def _weights(task_vectors: TaskVectors, threshold: float, floor: float) -> tuple[float, ...]:
    """One weight a model, by its mean square over the selected entries; they sum to one."""
    if threshold == 0:
        squares = task_vectors.gram.diagonal().tolist()
    else:
        squares = task_vectors.total(_Squares(threshold)).tolist()
    total = sum(squares)
    if total == 0 or total / task_vectors.elements < floor:
        return (1.0 / task_vectors.count,) * task_vectors.count
    return tuple(square / total for square in squares)


def _deviation(chunk: Chunk) -> Tensor:
    """Standard deviation over the models: in the order of the variance, and squares do not underflow."""
    values = chunk.values.double()
    return (values - values.mean(0)).square().mean(0).sqrt().float()


def _varying(chunk: Chunk) -> Tensor:
    """Number of entries in which the models differ."""
    return (_deviation(chunk) > 0).sum()


@dataclass(frozen=True)
class _Squares:
    """Each model's sum of squares over the entries that deviate enough, ``(K,)``."""

    threshold: float

    def __call__(self, chunk: Chunk) -> Tensor:
        return (chunk.values.double().square() * (_deviation(chunk) >= self.threshold)).sum(1)


@dataclass(frozen=True)
class _Elected:
    """The weighted mean of the models that agree with the sign of the sum.

    Attributes:
        weight: one number a model.
        threshold: entries that deviate less are left out.
        floor: the smallest sum of weights to divide by.
    """

    weight: tuple[float, ...]
    threshold: float
    floor: float

    def __call__(self, chunk: Chunk) -> Tensor:
        values = chunk.values
        if self.threshold > 0:
            values = values * (_deviation(chunk) >= self.threshold)
        sign = (values.sum(0) >= 0).to(values) * 2 - 1
        share = (values * sign > 0) * chunk.column(self.weight)
        divisor = share.sum(0).clamp(min=self.floor)
        return (share * values).sum(0) / divisor.masked_fill(divisor == 0, 1.0)
