"""Paths as ordinary recipes: passthrough slices, with the gains folded into output projections.

The result has the donor's stock architecture: repeated layers are written as often as they run, so no custom
code is needed to load it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from mergery.checkpoint import Checkpoint, ModelRef, layer_name
from mergery.checkpoint.architecture import language_stacks
from mergery.engine import make_plan
from mergery.errors import CheckpointError, RecipeError
from mergery.evolve.paths.blocks import BlockOutputs, block_outputs
from mergery.evolve.paths.path import Hop, Path
from mergery.recipe import InputModel, OutputModule, OutputSlice, Recipe, Setting
from mergery.recipe.settings import Filtered

__all__ = ["path_recipe"]


def path_recipe(path: Path, models: Sequence[ModelRef | Recipe], *, dtype: str | None = None) -> Recipe:
    """The recipe that writes a path into the donor's architecture. Opens headers of the donor at most.

    Plain mergekit YAML: one slice for each run of consecutive layers with one gain, and ``scale`` filters for
    the output projections. Two things are our grammar's, not mergekit's: where the path's ends are not the
    donor's, layers and the rest are two ``modules`` (a list of slices would take the embeddings from the
    first slice's model); and gains of Gemma-like blocks need ``shift`` beside ``scale``.

    Args:
        path: what runs.
        models: what the hops' numbers mean; the first is the donor.
        dtype: type of the result; the donor's own if not given.

    Raises:
        RecipeError: if a hop names no model, or the donor's blocks take no gain.
        CheckpointError: if the donor cannot be opened.
    """
    beyond = next((hop for hop in path.hops if hop.model >= len(models)), None)
    if beyond is not None:
        raise RecipeError(
            f"the path runs through model {beyond.model}, and there are {len(models)}",
            fix="number the models from 0",
        )
    donor = models[0]
    outputs = None
    if any(hop.gain != 1.0 for hop in path.hops):
        outputs = block_outputs(_opened(donor)[0], where=_label(donor))
    slices = tuple(
        OutputSlice(
            (
                InputModel(
                    models[first.model],
                    {} if outputs is None or first.gain == 1.0 else _gain(first.gain, outputs),
                    (first.layer, first.layer + count),
                ),
            )
        )
        for first, count in _runs(path.hops)
    )
    if models[path.hops[0].model] == donor == models[path.hops[-1].model]:
        return Recipe("passthrough", slices, dtype=dtype)
    whole = OutputSlice((InputModel(donor),))
    modules = (OutputModule("default", (whole,)), OutputModule(_stack(donor), slices))
    return Recipe("passthrough", modules=modules, dtype=dtype)


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


def _stack(model: ModelRef | Recipe) -> str:
    """The name of a model's stack of layers (``model.layers``)."""
    names = (parsed.stack for name in _opened(model)[1] if (parsed := layer_name(name)))
    stacks = language_stacks(dict.fromkeys(names))
    if len(stacks) != 1:
        raise CheckpointError(
            f"{_label(model)}: it has {len(stacks)} stacks of layers, and a path needs one",
            fix="use a model that is a language model only",
        )
    return stacks[0].removesuffix(".")


def _opened(model: ModelRef | Recipe) -> tuple[Mapping[str, object], Sequence[str]]:
    """A model's configuration and the names of its tensors; of a recipe, its result's."""
    if isinstance(model, Recipe):
        plan = make_plan(model)
        return plan.config, [job.name for job in plan.jobs]
    checkpoint = Checkpoint.open(model)
    return checkpoint.config, list(checkpoint.tensors)


def _label(model: ModelRef | Recipe) -> str:
    return str(model) if isinstance(model, ModelRef) else f"the result of the {model.merge_method} recipe"
