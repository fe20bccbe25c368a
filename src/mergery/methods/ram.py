"""Reinforced Agent Merging: changes that only one model has are not diluted."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from mergery.methods.api import Interval, NonNegative, merge_method
from mergery.stack import Merged, TaskVectors

if TYPE_CHECKING:
    from torch import Tensor

    from mergery.stack import Chunk

__all__ = ["ram", "ramplus_tl"]

Threshold = Annotated[float, Interval(0.0, math.inf, (1e-6, 1e-3))]


@merge_method("ram", paper="arXiv:2601.13572")
def ram(task_vectors: TaskVectors, *, epsilon: Threshold = 1e-5) -> Merged:
    """Average the changes that models share, keep those of one model whole (RAM).

    ``tau = sum_k m_k tau_k / sum_k m_k`` with ``m_k = |tau_k| > epsilon``: each entry is divided by the
    number of models that change it. Made for models trained by reinforcement, whose changes are sparse.

    Args:
        task_vectors: the models.
        epsilon: the size up to which a change counts as none, in the weights' own units.
    """
    return task_vectors.map(_Shared(epsilon, (1.0,) * task_vectors.count))


@merge_method("ramplus_tl", paper="arXiv:2601.13572")
def ramplus_tl(
    task_vectors: TaskVectors, *, r: NonNegative = 0.1, alpha: NonNegative = 0.2, epsilon: Threshold = 1e-5
) -> Merged:
    """Average shared changes, and amplify those of one model by how much it shares (RAM+, tensor by tensor).

    As ``ram``, with the changes that only model k has multiplied by
    ``1 + r min(shared_k / unique_k, alpha)``, where shared_k and unique_k count, within the tensor, the
    entries that the model changes with others and alone: what averaging takes from it is made up for.

    Args:
        task_vectors: the models.
        r: strength.
        alpha: largest ratio that counts.
        epsilon: the size up to which a change counts as none, in the weights' own units.
    """
    counts = task_vectors.total(_Counts(epsilon)).tolist()
    scale = tuple(
        1.0 + r * min(shared / (touched - shared), alpha) if touched > shared else 1.0
        for touched, shared in zip(*counts, strict=True)
    )
    return task_vectors.map(_Shared(epsilon, scale))


@dataclass(frozen=True)
class _Counts:
    """How many entries each model changes, and how many of them with others, ``(2, K)``."""

    epsilon: float

    def __call__(self, chunk: Chunk) -> Tensor:
        changed = chunk.values.abs() > self.epsilon
        others = chunk.values.new_tensor((0.0, 1.0)).unsqueeze(1)
        shared = changed.sum(0) > others
        return (changed.unsqueeze(0) & shared.unsqueeze(1)).sum(2)


@dataclass(frozen=True)
class _Shared:
    """Each entry's mean over the models that change it, those of one model scaled.

    Attributes:
        epsilon: the size up to which a change counts as none.
        scale: of the entries that only one model changes, one number a model.
    """

    epsilon: float
    scale: tuple[float, ...]

    def __call__(self, chunk: Chunk) -> Tensor:
        changed = chunk.values.abs() > self.epsilon
        count = changed.sum(0)
        changes = chunk.values * changed
        mean = changes.sum(0) / count.clamp(min=1)
        return mean.where(count != 1, (changes * chunk.column(self.scale)).sum(0))
