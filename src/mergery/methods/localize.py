"""Small regions of each model, stitched into the base (Localize-and-Stitch)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mergery.methods.api import Fraction, PerModel, each, merge_method
from mergery.methods.voting import summed
from mergery.stack import Chunk, Merged, TaskVectors

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["localize_and_stitch"]


@merge_method("localize_and_stitch", paper="arXiv:2408.13656")
def localize_and_stitch(
    task_vectors: TaskVectors,
    *,
    density: PerModel[Fraction] = each(0.1),
    scope: Literal["tensor", "model"] = "model",
) -> Merged:
    """Keep each model's largest changes, and average them where they overlap (dataless Localize-and-Stitch).

    1. Localize (He et al., algorithm 1, without data): each model keeps its ``int(density n)`` largest
       changes, counted within the whole model; those as large as the smallest one kept are kept too, and a
       change of zero never.
    2. Stitch: at each entry the mean of the changes that are kept there; entries kept by none stay the
       base's. There is nothing to scale.

    The density is MergeBench's for language models.

    Args:
        task_vectors: the models.
        density: share of the entries that each model keeps.
        scope: where the largest changes are counted.
    """
    within = task_vectors.model if scope == "model" else task_vectors
    floor = within.kth_magnitude([int(share * within.elements) for share in density])
    return task_vectors.map(_Stitched(floor))


@dataclass(frozen=True)
class _Stitched:
    """The mean, at each entry, of the changes at or above their model's floor."""

    floor: tuple[float, ...]

    def __call__(self, chunk: Chunk) -> Tensor:
        kept = (chunk.values.abs() >= chunk.column(self.floor)) & (chunk.values != 0)
        return summed(chunk.values * kept) / kept.sum(0).clamp(min=1)
