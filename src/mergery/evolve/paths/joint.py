"""Weights and paths searched at once: a recipe with open knobs, and a path through its result.

Searched one after the other, a path begins where weights alone were best; here they may be best for each
other. It costs a merge for each candidate, and candidates that begin alike share nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

from mergery.checkpoint import ModelRef
from mergery.evolve.algorithms.api import Point, Problem
from mergery.evolve.candidate import Candidate, alone
from mergery.evolve.paths.encoding import Encoding
from mergery.evolve.paths.export import PathRecipes
from mergery.evolve.paths.path import Path
from mergery.evolve.space import Domain, Genome, SearchSpace
from mergery.recipe import Recipe

__all__ = ["JointSpace"]


class JointSpace:
    """Recipes and paths together (:class:`mergery.evolve.space.Space`).

    Args:
        weights: the recipe with its knobs; its result is the donor, model 0 of the paths.
        encoding: how paths are written as numbers.
        others: the paths' other models, from number 1 on.
    """

    def __init__(self, weights: SearchSpace, encoding: Encoding, others: Sequence[ModelRef | Recipe]) -> None:
        self.weights, self.encoding, self.others = weights, encoding, tuple(others)

    @property
    def names(self) -> tuple[str, ...]:
        """The recipe's dimensions, then the path's."""
        return (*self.weights.names, *self.encoding.names)

    @property
    def domains(self) -> tuple[Domain, ...]:
        """What each dimension's values are."""
        return (*self.weights.domains, *self.encoding.domains)

    @property
    def problem(self) -> Problem:
        """Known are plain merges with their own layers, and plain paths through the start's recipe."""
        weights, paths = self.weights.problem, self.encoding.problem
        known = [(name, (*point, *paths.start)) for name, point in weights.known]
        known += [(name, (*weights.start, *point)) for name, point in paths.known]
        return Problem(
            start=(*weights.start, *paths.start),
            choices=(*_choices(weights), *_choices(paths)),
            levels=_levels(weights, paths),
            depths=(*weights.depths, *paths.depths),
            known=tuple(known),
        )

    @property
    def identity(self) -> object:
        """Plain data that says which space it is."""
        others = [str(model) if isinstance(model, ModelRef) else model.digest for model in self.others]
        return ["joint", self.weights.identity, self.encoding.identity, others]

    @property
    def starts(self) -> tuple[Recipe, ...]:
        """The first candidate, then recipes of all that candidates are made of."""
        first = self.candidate(self.decode(self.problem.start)).recipe
        return (first, *self.weights.starts, *map(alone, self.others))

    @property
    def models(self) -> tuple[ModelRef | Recipe, ...]:
        """What the hops' numbers mean, with the recipe that the search begins with."""
        return (self.weights.recipe(self.weights.decode(self.weights.start)), *self.others)

    def decode(self, point: Point) -> Genome:
        """The genome at a point of the unit cube."""
        count = len(self.weights.names)
        return (*self.weights.decode(point[:count]), *self.encoding.genome(point[count:]))

    def candidate(self, genome: Genome) -> Candidate:
        """The recipe and the path that a genome stands for, as one recipe.

        Raises:
            RecipeError: if its values cannot stand together.
        """
        count = len(self.weights.names)
        donor = self.weights.recipe(genome[:count])
        path = self.encoding.path(genome[count:])
        return Candidate(PathRecipes((donor, *self.others)).of(path), path, donor)

    def merged(self, recipe: Recipe) -> Candidate:
        """A merge of the same models without a search, as a candidate: its own layers are the path."""
        return Candidate(recipe, Path.plain(self.encoding.depths[0]), recipe)


def _choices(problem: Problem) -> tuple[int, ...]:
    return problem.choices or (0,) * problem.dimensions


def _levels(weights: Problem, paths: Problem) -> tuple[tuple[int, ...], ...]:
    """Both become finer together; who has fewer levels stays at the finest."""
    first, second = (part.levels or (tuple(range(part.dimensions)),) for part in (weights, paths))
    found: list[tuple[int, ...]] = []
    for number in range(max(len(first), len(second))):
        one, two = first[min(number, len(first) - 1)], second[min(number, len(second) - 1)]
        found.append((*one, *(max(one) + 1 + group for group in two)))
    return tuple(found) if len(found) > 1 else ()
