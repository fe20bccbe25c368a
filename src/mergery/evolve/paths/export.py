"""Paths as ordinary recipes: passthrough slices, with the gains folded into output projections.

The result has the donor's stock architecture: repeated layers are written as often as they run, so no custom
code is needed to load it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property

from mergery.checkpoint import Checkpoint, ModelRef, layer_name
from mergery.checkpoint.architecture import language_stacks
from mergery.engine import make_plan
from mergery.errors import CheckpointError, RecipeError
from mergery.evolve.paths.blocks import BlockOutputs, block_outputs
from mergery.evolve.paths.path import Hop, Path
from mergery.recipe import InputModel, OutputModule, OutputSlice, Recipe, Setting
from mergery.recipe.settings import Filtered

__all__ = ["PathRecipes", "path_recipe"]


def path_recipe(path: Path, models: Sequence[ModelRef | Recipe], *, dtype: str | None = None) -> Recipe:
    """The recipe that writes a path into the donor's architecture; see :class:`PathRecipes`."""
    return PathRecipes(models, dtype=dtype).of(path)


class PathRecipes:
    """Recipes of paths through the same models. Opens headers of the donor at most, and those once.

    They are plain mergekit YAML: one slice for each run of consecutive layers with one gain, and ``scale``
    filters for the output projections. Two things are our grammar's, not mergekit's: where the path's ends
    are not the donor's, layers and the rest are two ``modules`` (a list of slices would take the embeddings
    from the first slice's model); and gains of Gemma-like blocks need ``shift`` beside ``scale``.

    Args:
        models: what the hops' numbers mean; the first is the donor.
        dtype: type of the results; the donor's own if not given.
    """

    def __init__(self, models: Sequence[ModelRef | Recipe], *, dtype: str | None = None) -> None:
        self._models, self._dtype = tuple(models), dtype

    def of(self, path: Path) -> Recipe:
        """The recipe of one path.

        Raises:
            RecipeError: if a hop names no model, or the donor's blocks take no gain.
            CheckpointError: if the donor cannot be opened.
        """
        beyond = next((hop for hop in path.hops if hop.model >= len(self._models)), None)
        if beyond is not None:
            raise RecipeError(
                f"the path runs through model {beyond.model}, and there are {len(self._models)}",
                fix="number the models from 0",
            )
        slices = tuple(OutputSlice((self._source(first, count),)) for first, count in _runs(path.hops))
        donor = self._models[0]
        if all(self._models[hop.model] == donor for hop in (path.hops[0], path.hops[-1])):
            return Recipe("passthrough", slices, dtype=self._dtype)
        whole = OutputSlice((InputModel(donor),))
        modules = (OutputModule("default", (whole,)), OutputModule(self._stack, slices))
        return Recipe("passthrough", modules=modules, dtype=self._dtype)

    def _source(self, first: Hop, count: int) -> InputModel:
        parameters = {} if first.gain == 1.0 else _gain(first.gain, self._outputs)
        return InputModel(self._models[first.model], parameters, (first.layer, first.layer + count))

    @cached_property
    def _opened(self) -> tuple[Mapping[str, object], Sequence[str]]:
        """The donor's configuration and the names of its tensors; of a recipe, its result's."""
        donor = self._models[0]
        if isinstance(donor, Recipe):
            plan = make_plan(donor)
            return plan.config, [job.name for job in plan.jobs]
        checkpoint = Checkpoint.open(donor)
        return checkpoint.config, list(checkpoint.tensors)

    @cached_property
    def _outputs(self) -> BlockOutputs:
        return block_outputs(self._opened[0], where=self._label)

    @cached_property
    def _stack(self) -> str:
        """The name of the donor's stack of layers (``model.layers``)."""
        names = (parsed.stack for name in self._opened[1] if (parsed := layer_name(name)))
        stacks = language_stacks(dict.fromkeys(names))
        if len(stacks) != 1:
            raise CheckpointError(
                f"{self._label}: it has {len(stacks)} stacks of layers, and a path needs one",
                fix="use a model that is a language model only",
            )
        return stacks[0].removesuffix(".")

    @property
    def _label(self) -> str:
        donor = self._models[0]
        return str(donor) if isinstance(donor, ModelRef) else f"the result of the {donor.merge_method} recipe"


def _runs(hops: Sequence[Hop]) -> Iterator[tuple[Hop, int]]:
    """Consecutive layers of one model with one gain: the first of them, and how many they are."""
    first, count = hops[0], 1
    for hop in hops[1:]:
        if hop == Hop(first.model, first.layer + count, first.gain):
            count += 1
        else:
            yield first, count
            first, count = hop, 1
    yield first, count


def _gain(gain: float, outputs: BlockOutputs) -> dict[str, Setting]:
    """Parameters that multiply what the blocks put out."""

    def only(value: float, otherwise: float) -> Setting:
        return (*(Filtered(part, value) for part in outputs.tensors), Filtered("*", otherwise))

    if outputs.centred:  # 1 + w becomes g (1 + w)
        return {"scale": only(gain, 1.0), "shift": only(gain - 1.0, 0.0)}
    return {"scale": only(gain, 1.0)}
