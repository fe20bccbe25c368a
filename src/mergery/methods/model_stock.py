"""Model Stock: how far to go from the base to the average, read off the angle between fine-tunes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mergery.methods.api import NonNegative, merge_method
from mergery.methods.spherical import cosines
from mergery.stack import Merged, TaskVectors

if TYPE_CHECKING:
    from torch import Tensor

    from mergery.stack import Chunk

__all__ = ["model_stock"]

_SMALLEST_DIVISOR = 1e-8


@merge_method(
    "model_stock",
    paper="arXiv:2403.19522",
    models=(2, math.inf),
    ignores=("weight",),
    mergekit={"clamp": False, "floor": 1e-6},
)
def model_stock(
    task_vectors: TaskVectors,
    *,
    filter_wise: bool = False,
    clamp: bool = True,
    floor: NonNegative = 0.0,
) -> Merged:
    """Average models and draw back towards the base by the angle between them (Model Stock).

    ``theta = theta_base + t mean_k tau_k`` with ``t = K c / (1 + (K - 1) c)`` (Jang et al.), for each
    tensor, where c is the cosine of the angle between task vectors. The paper has one angle; for K > 2 c
    is the mean of the pairwise cosines. All models count the same: ``weight`` is read and ignored, as in
    mergekit. A zero task vector has cosine 0 to all others.

    Departs from mergekit (``clamp: false`` and ``floor: 1e-6`` restore it): t is kept in [0, 1], where
    fine-tunes at obtuse angles give -18 and beyond, up to a division by zero; and cosines of small
    differences are measured, where there products of norms below 1e-6 count as 1e-6, which makes c
    vanish.

    Args:
        task_vectors: the models.
        filter_wise: an angle for each row (along the last axis) instead of the whole tensor.
        clamp: keep t between 0 and 1, so that the result lies between base and average.
        floor: products of two norms below this are taken to be this.
    """
    gram = task_vectors.row_gram if filter_wise else task_vectors.gram
    ratio = _ratio(cosines(gram, floor), clamp)
    if filter_wise:
        return task_vectors.map(_RowAverage(ratio), rows=True)
    return task_vectors.weighted_sum([float(ratio) / task_vectors.count] * task_vectors.count)


def _ratio(cosine: NDArray[np.float64], clamp: bool) -> NDArray[np.float64]:
    """The ratio t for cosines between K models, ``(..., K, K)``; 0 where it is not defined."""
    count = cosine.shape[-1]
    upper = np.triu_indices(count, 1)
    mean = cosine[..., upper[0], upper[1]].mean(axis=-1)
    if clamp:
        mean = np.maximum(mean, 0.0)
    divisor = 1.0 + (count - 1) * mean
    defined = np.abs(divisor) >= _SMALLEST_DIVISOR
    return np.where(defined, count * mean / np.where(defined, divisor, 1.0), 0.0)


@dataclass(frozen=True, eq=False)
class _RowAverage:
    """The mean of the models, each row scaled by its own ratio ``(rows,)``."""

    ratio: NDArray[np.float64]

    def __call__(self, chunk: Chunk) -> Tensor:
        mean = chunk.rows.mean(0)
        begin = chunk.first // chunk.row
        ratio = chunk.values.new_tensor(self.ratio[begin : begin + mean.shape[0]])
        return (mean * ratio.unsqueeze(1)).flatten()
