"""Models put together entry by entry, for functions of chunks; not a family of methods.

What the fused loops do for a :class:`~mergery.stack.Combination`, in torch's own operations and in the same
order, so that a model of weight zero changes no bit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mergery.errors import RecipeError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["agreeing", "chosen", "elected_entries", "summed"]


def summed(changes: Tensor) -> Tensor:
    """The sum over models, ``(K, m)`` to ``(m,)``, in their order."""
    total = changes[0]
    for change in changes[1:]:
        total = total + change
    return total


def agreeing(changes: Tensor) -> Tensor:
    """Which changes have the sign of their sum, ``(K, m)``; a sum of exactly zero counts as plus."""
    return (changes > 0).where(summed(changes) >= 0, changes < 0)


def elected_entries(changes: Tensor, shares: Tensor | None = None) -> Tensor:
    """The sum, at each entry, over the models that agree with its sign (TIES, steps 2 and 3).

    Args:
        changes: ``(K, m)``, weighted.
        shares: ``(K, 1)``: divide by the sum of these over those that agree, where it is not zero.
    """
    agrees = agreeing(changes)
    total = summed(changes * agrees)
    if shares is None:
        return total
    divisor = summed(shares * agrees)
    return (total / divisor).where(divisor != 0, total)


def chosen(flags: Sequence[bool], method: str, name: str) -> int | None:
    """The place of the one model whose switch is on, or none.

    Raises:
        RecipeError: if it is on for several.
    """
    places = [place for place, flag in enumerate(flags) if flag]
    if len(places) > 1:
        raise RecipeError(
            f"{method}: {name} is on for {len(places)} models", fix=f"give {name}: true to one model alone"
        )
    return places[0] if places else None
