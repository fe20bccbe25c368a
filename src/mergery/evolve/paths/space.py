"""Path space as a search sees it, alone or with weights: genomes, and the recipes they stand for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mergery.checkpoint import ModelRef
from mergery.checkpoint.architecture import language_stacks
from mergery.engine import make_plan
from mergery.errors import RecipeError
from mergery.evolve.algorithms.api import Point, Problem
from mergery.evolve.candidate import Candidate, alone
from mergery.evolve.paths.encoding import AlignedEncoding, Encoding, PaperEncoding
from mergery.evolve.paths.export import PathRecipes
from mergery.evolve.paths.joint import JointSpace
from mergery.evolve.search import EVOLVED, PathsSpec
from mergery.evolve.space import Domain, Genome, SearchSpace
from mergery.recipe import Recipe

__all__ = ["PathSpace", "open_joint", "open_paths"]


def open_paths(spec: PathsSpec, *, where: str = "paths") -> PathSpace:
    """The path space that a search file asks for; opens headers only.

    Raises:
        RecipeError: if a model is not written as one.
        CheckpointError: if a model cannot be opened.
    """
    models = _models(spec.models, where)
    return PathSpace(_encoding(spec, models), models)


def open_joint(recipe: Mapping[str, object], spec: PathsSpec) -> JointSpace:
    """The space of recipes and paths together that a search file asks for; opens headers only.

    Raises:
        RecipeError: if a model is not written as one, or the searched recipe's result is not the donor.
        CheckpointError: if a model cannot be opened.
    """
    if spec.models[0] != EVOLVED or EVOLVED in spec.models[1:]:
        raise RecipeError(
            f"paths.models: with joint: true, {EVOLVED} is the first one",
            fix=f"write models: [{EVOLVED}, ...]",
        )
    weights, others = SearchSpace.open(recipe), _models(spec.models[1:], "paths", first=1)
    return JointSpace(weights, _encoding(spec, [weights.starts[0], *others]), others)


def _models(
    written: Sequence[str | Mapping[str, object]], where: str, first: int = 0
) -> list[ModelRef | Recipe]:
    return [
        ModelRef.parse(model)
        if isinstance(model, str)
        else Recipe.from_dict(model, where=f"{where}.models[{at}]")
        for at, model in enumerate(written, first)
    ]


def _encoding(spec: PathsSpec, models: Sequence[ModelRef | Recipe]) -> Encoding:
    depths = tuple(_depth(model) for model in models)
    if spec.encoding == "paper":
        return PaperEncoding(depths, spec.repeats)
    if spec.gains:
        return AlignedEncoding(depths, longest=spec.longest)
    return AlignedEncoding(depths, None, spec.longest)


def _depth(model: ModelRef | Recipe) -> int:
    """How many layers a model has, or the result of a recipe."""
    depths = make_plan(alone(model)).depths
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
    def starts(self) -> tuple[Recipe, ...]:
        """The first candidate, then recipes of all models whose layers may run."""
        return (self.candidate(self.decode(self.problem.start)).recipe, *map(alone, self.models))

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
