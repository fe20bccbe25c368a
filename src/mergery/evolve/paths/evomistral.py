"""The format of EvoLLM-JP-v1-10B: a path-space result that needs code of its own, made a stock Mistral.

Such a directory (``model_type: evomistral``) stores each layer once, and two tensors beside them:
``model.input_layers``, the layer of every hop, and ``model.input_scales``, as many factors. Stock software
does not run it. Here its path is read, and its weights are opened as the Mistral that they are; the recipe
of the two writes a Mistral of as many layers as there are hops.

What the factors mean is said differently by the programs that run the format: Sakana's vLLM takes the factor
whose number is the layer's, a later port the one whose number is the hop's. It is not known which of them the
search meant, so :func:`read_evomistral` asks. Both of them multiply only what the hop before added last,
where its stream and that are held apart; here a factor multiplies the residual stream before the hop, as the
paper says.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeAlias

from mergery.checkpoint import Checkpoint, ModelRef
from mergery.checkpoint.safetensors import read_tensor
from mergery.engine.output import check_free, staged_directory
from mergery.errors import CheckpointError
from mergery.evolve.paths.export import PathRecipes
from mergery.evolve.paths.path import Path as LayerPath
from mergery.recipe import InputModel, OutputModule, OutputSlice, Recipe, Unmatched

__all__ = ["ScalesBy", "evomistral_recipe", "open_evomistral", "read_evomistral"]

ScalesBy: TypeAlias = Literal["hop", "layer"]
"""Whose number a factor is found by."""

_LAYERS, _SCALES = "model.input_layers", "model.input_scales"
_OWN_SETTINGS = ("auto_map", "num_hops")
_STACK = "model.layers"


def read_evomistral(model: ModelRef | Path | str, *, scales_by: ScalesBy) -> LayerPath:
    """The path of a model in this format, through its own stored layers.

    Args:
        model: the directory, or a model's id.
        scales_by: ``hop`` takes ``input_scales[t]`` before hop t; ``layer`` takes
            ``input_scales[input_layers[t]]``.

    Raises:
        CheckpointError: if it is not in this format, or its two tensors do not fit each other or the layers.
        RecipeError: if a factor is not positive.
    """
    checkpoint = _opened(model)
    layers = [int(layer) for layer in read_tensor(checkpoint.tensors[_LAYERS]).tolist()]
    scales = read_tensor(checkpoint.tensors[_SCALES]).double().tolist()
    stored = checkpoint.config.get("num_hidden_layers")
    if len(layers) != len(scales):
        raise _misfit(checkpoint, f"{len(layers)} layers and {len(scales)} scales")
    if not isinstance(stored, int) or not all(0 <= layer < stored for layer in layers):
        raise _misfit(checkpoint, f"it stores {stored} layers and runs layer {max(layers, default=0)}")
    chosen = scales if scales_by == "hop" else [scales[layer] for layer in layers]
    return LayerPath.from_scales([(0, layer) for layer in layers], chosen)


def open_evomistral(model: ModelRef | Path | str, directory: Path | str) -> ModelRef:
    """Lay a model in this format out as the Mistral of its stored layers; its files are linked, not copied.

    The directory is for recipes and live paths. As a model it means nothing: it runs each stored layer once.

    Args:
        model: the directory, or a model's id.
        directory: to make; it must not exist, or be empty.

    Raises:
        CheckpointError: if it is not in this format.
        OutputError: if the directory cannot be made.
    """
    checkpoint, out = _opened(model), Path(directory)
    config = {key: value for key, value in checkpoint.config.items() if key not in _OWN_SETTINGS}
    config |= {"model_type": "mistral", "architectures": ["MistralForCausalLM"]}
    check_free(out)
    with staged_directory(out) as staging:
        for file in sorted(checkpoint.directory.iterdir()):
            if file.is_file() and file.suffix != ".py" and file.name != "config.json":
                (staging / file.name).symlink_to(file.resolve())
        (staging / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return ModelRef(str(out))


def evomistral_recipe(path: LayerPath, stored: ModelRef) -> Recipe:
    """The recipe that writes the path as a stock Mistral, without the format's own two tensors.

    Args:
        path: through the stored layers, as :func:`read_evomistral` gives it.
        stored: as :func:`open_evomistral` gives it.
    """
    recipe = PathRecipes([stored]).of(path)
    outside = dict.fromkeys(
        name.removesuffix(".weight")
        for name in Checkpoint.open(stored).tensors
        if not name.startswith(f"{_STACK}.") and name not in (_LAYERS, _SCALES)
    )
    whole = OutputSlice((InputModel(stored),))
    modules = (*(OutputModule(name, (whole,)) for name in outside), OutputModule(_STACK, recipe.slices))
    dropped = tuple(Unmatched(name, "drop") for name in (_LAYERS, _SCALES))
    return replace(recipe, slices=(), modules=modules, unmatched=dropped)


def _opened(model: ModelRef | Path | str) -> Checkpoint:
    checkpoint = Checkpoint.open(model)
    lacking = [name for name in (_LAYERS, _SCALES) if name not in checkpoint.tensors]
    if lacking:
        raise CheckpointError(
            f"{checkpoint.ref}: no {lacking[0]}: not in the format of EvoLLM-JP-v1-10B",
            fix="use it as any other model",
        )
    return checkpoint


def _misfit(checkpoint: Checkpoint, reason: str) -> CheckpointError:
    return CheckpointError(f"{checkpoint.ref}: {reason}", fix="download the model again")
