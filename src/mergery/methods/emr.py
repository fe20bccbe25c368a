"""One task's model out of a unified task vector: elect, mask and rescale (EMR-Merging)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mergery.methods.api import PerModel, each, merge_method
from mergery.methods.voting import chosen, summed
from mergery.stack import Chunk, Merged, TaskVectors

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["emr"]


@merge_method("emr", paper="arXiv:2405.17461")
def emr(task_vectors: TaskVectors, *, task: PerModel[bool] = each(False)) -> Merged:
    """Unify task vectors, then mask and rescale them for one chosen task (EMR-Merging).

    1. Elect (Huang et al., section 3.2): the sign of ``sum_k tau_k`` at each entry, an exact zero counting
       as minus as in the authors' code, and the largest magnitude among the changes that have it.
    2. Mask: keep the entries at which the chosen task's change has that sign.
    3. Rescale: by the task's sum of magnitudes over that of what is kept, both over the whole model.

    Without a chosen task the unified vector is added whole. The paper keeps one mask and one factor for each
    task beside the model; here the result is the model of one of them.

    Departs from the authors' code: it rescales by sums of per-tensor means, in which small tensors count as
    much as large ones; here by the sums of the paper's equation.

    Args:
        task_vectors: the models.
        task: true for the model whose task is wanted.

    Raises:
        RecipeError: if several models are chosen.
    """
    place = chosen(task, "emr", "task")
    if place is None:
        return task_vectors.map(_unified)
    before, after = task_vectors.model.total(_magnitudes)[place]
    return task_vectors.map(_Masked(place)) * (float(before / after) if after > 0 else 1.0)


@dataclass(frozen=True)
class _Masked:
    """The unified vector where one model's change has its sign."""

    place: int

    def __call__(self, chunk: Chunk) -> Tensor:
        unified = _unified(chunk)
        return unified * (chunk.values[self.place].sign() == unified.sign())


def _unified(chunk: Chunk) -> Tensor:
    """The elected sign with the largest magnitude that has it, ``(m,)``."""
    highest, lowest = chunk.values.amax(0).clamp(min=0), chunk.values.amin(0).clamp(max=0)
    return highest.where(summed(chunk.values) > 0, lowest)


def _magnitudes(chunk: Chunk) -> Tensor:
    """Sums of magnitudes of each model's changes, and of the unified vector under its mask, ``(K, 2)``."""
    unified = _unified(chunk)
    agrees = chunk.values.sign() == unified.sign()
    sums = chunk.values.new_zeros((chunk.count, 2)).double()
    sums[:, 0] = chunk.values.abs().double().sum(1)
    sums[:, 1] = (unified.abs() * agrees).double().sum(1)
    return sums
