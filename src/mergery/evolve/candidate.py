"""What is merged, or strung together, and asked items."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mergery.checkpoint import ModelRef
from mergery.recipe import Recipe

if TYPE_CHECKING:
    from mergery.evolve.paths import Path

__all__ = ["Candidate", "alone", "stored"]


@dataclass(frozen=True)
class Candidate:
    """A recipe to be tried.

    Attributes:
        recipe: what writes it.
        path: the layers in the order in which they run, where they are not merged but passed on.
        donor: what is merged to be the path's donor, where that changes from candidate to candidate.
    """

    recipe: Recipe
    path: Path | None = None
    donor: Recipe | None = None


def alone(model: ModelRef | Recipe) -> Recipe:
    """A model as it is, as a recipe."""
    if isinstance(model, Recipe):
        return model
    return Recipe.from_dict({"merge_method": "passthrough", "models": [{"model": str(model)}]})


def stored(model: ModelRef) -> Candidate:
    """A model as it is, as a candidate."""
    return Candidate(alone(model))
