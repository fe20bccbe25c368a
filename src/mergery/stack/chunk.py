"""A piece of a stack, for methods that say what happens to each element."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["CHUNK", "FUNCTION_CHUNK", "Chunk"]

CHUNK = 1 << 18
"""Elements of a chunk. Sums are made chunk by chunk, so their last bits depend on it: not a setting."""

FUNCTION_CHUNK = 1 << 16
"""Elements of a chunk that a method's own function is given: each of its steps makes as much anew."""


@dataclass(frozen=True, eq=False)
class Chunk:
    """The same m elements of K models.

    Attributes:
        values: ``(K, m)`` float32: differences from the base where there is one, else the models'
            own; never written to by a method.
        base: ``(m,)`` float32, or none.
        first: index of the first element in its tensor.
        row: length of the tensor's rows (its last axis). A chunk made of whole rows can be viewed as
            ``(K, m / row, row)``.
        uniform: draws uniform numbers in [0, 1), ``(K, m)`` float32, that belong to these elements.
    """

    values: Tensor
    base: Tensor | None
    first: int
    row: int
    uniform: Callable[[], Tensor]

    @property
    def count(self) -> int:
        """K, the number of models."""
        return self.values.shape[0]

    @property
    def rows(self) -> Tensor:
        """``(K, m / row, row)``: the values row by row; of a chunk made of whole rows."""
        return self.values.view(self.count, -1, self.row)

    def column(self, per_model: tuple[float, ...]) -> Tensor:
        """One number for each model as ``(K, 1)`` float32, to broadcast over the elements."""
        return self.values.new_tensor(per_model).unsqueeze(1)
