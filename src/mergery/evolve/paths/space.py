"""Path space as a search sees it: genomes, and the recipes they stand for."""

from __future__ import annotations

from collections.abc import Sequence

from mergery.checkpoint import ModelRef
from mergery.checkpoint.architecture import language_stacks
from mergery.engine import make_plan
from mergery.errors import RecipeError
from mergery.evolve.algorithms.api import Point, Problem
from mergery.evolve.paths.encoding import AlignedEncoding, Encoding, PaperEncoding
from mergery.evolve.paths.export import PathRecipes
from mergery.evolve.search import PathsSpec
from mergery.evolve.space import Candidate, Domain, Genome, stored
from mergery.recipe import Recipe

__all__ = ["PathSpace", "open_paths"]


def open_paths(spec: PathsSpec, *, where: str = "paths") -> PathSpace:
    """The path space that a search file asks for; opens headers only.

    Raises:
        RecipeError: if a model is not written as one.
        CheckpointError: if a model cannot be opened.
    """
    models = [
        ModelRef.parse(model)
        if isinstance(model, str)
        else Recipe.from_dict(model, where=f"{where}.models[{at}]")
        for at, model in enumerate(spec.models)
    ]
    depths = tuple(_depth(model) for model in models)
    if spec.encoding == "paper":
        return PathSpace(PaperEncoding(depths, spec.repeats), models)
    if spec.gains:
        return PathSpace(AlignedEncoding(depths, longest=spec.longest), models)
    return PathSpace(AlignedEncoding(depths, None, spec.longest), models)


def _depth(model: ModelRef | Recipe) -> int:
    """How many layers a model has, or the result of a recipe."""
    depths = make_plan(model if isinstance(model, Recipe) else stored(model).recipe).depths
    stacks = language_stacks(depths)
    if len(stacks) != 1:
        raise RecipeError(
            f"{model}: {len(stacks)} stacks of layers, and a path leads through one",
            fix="name models with one stack of decoder layers",
        )
    return depths[stacks[0]]


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
