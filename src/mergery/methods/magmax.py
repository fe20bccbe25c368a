"""At each entry the largest change of all models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mergery.methods.api import PerModel, Real, each, merge_method
from mergery.stack import Chunk, Merged, TaskVectors

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["magmax"]


@merge_method("magmax", paper="arXiv:2407.06322")
def magmax(task_vectors: TaskVectors, *, weight: PerModel[Real] = each(1.0), lambda_: Real = 0.5) -> Merged:
    """Take, at each entry, the change of largest magnitude (MagMax).

    ``theta = theta_base + lambda tau`` with ``tau`` the ``w_k tau_k`` of largest magnitude at each entry
    (Marczak et al., section 4). Of two changes of equal magnitude and opposite sign the positive one is
    taken, where the authors' code takes the later model's; so the order of models does not matter.

    Args:
        task_vectors: the models.
        weight: w_k, applied before magnitudes are compared.
        lambda_: scale of the whole difference; 0.5 as in the authors' code.
    """
    return task_vectors.map(_Largest(weight)) * lambda_


@dataclass(frozen=True)
class _Largest:
    weight: tuple[float, ...]

    def __call__(self, chunk: Chunk) -> Tensor:
        changes = chunk.values * chunk.column(self.weight)
        highest, lowest = changes.amax(0), changes.amin(0)
        return highest.where(highest >= -lowest, lowest)
