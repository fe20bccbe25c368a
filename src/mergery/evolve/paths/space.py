"""Path space as a search sees it: genomes, and the recipes they stand for."""

from __future__ import annotations

from collections.abc import Sequence

from mergery.checkpoint import ModelRef
from mergery.evolve.algorithms.api import Point, Problem
from mergery.evolve.paths.encoding import Encoding
from mergery.evolve.paths.export import PathRecipes
from mergery.evolve.space import Candidate, Domain, Genome
from mergery.recipe import Recipe

__all__ = ["PathSpace"]


class PathSpace:
    """Paths through some models (:class:`mergery.evolve.space.Space`).

    Args:
        encoding: how paths are written as numbers.
        models: what the hops' numbers mean; the first is the donor. A recipe is a model, too: what a search
            in weight space found goes back into the pool like this.
    """

    def __init__(self, encoding: Encoding, models: Sequence[ModelRef | Recipe]) -> None:
        self.encoding, self.models = encoding, tuple(models)
        self._recipes = PathRecipes(self.models)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the dimensions."""
        return self.encoding.names

    @property
    def domains(self) -> tuple[Domain, ...]:
        """What each dimension's values are."""
        return self.encoding.domains

    @property
    def problem(self) -> Problem:
        """What algorithms know of it."""
        return self.encoding.problem

    @property
    def identity(self) -> object:
        """Plain data that says which space it is."""
        models = [str(model) if isinstance(model, ModelRef) else model.digest for model in self.models]
        return [self.encoding.identity, models]

    def decode(self, point: Point) -> Genome:
        """The genome at a point of the unit cube."""
        return self.encoding.genome(point)

    def candidate(self, genome: Genome) -> Candidate:
        """The path that a genome stands for, and its recipe.

        Raises:
            RecipeError: if there is none, or the donor's blocks take no gain.
        """
        path = self.encoding.path(genome)
        return Candidate(self._recipes.of(path), path)
