"""Stock models whose layers are other models' layers: same classes, shared weights, nothing copied."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, TypeVar

from mergery.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn
    from transformers import PreTrainedConfig, PreTrainedModel

__all__ = ["Stacker", "decoder_of", "layers_of"]

Module = TypeVar("Module", bound="nn.Module")

_BLANKS = 32
"""Models without weights that are kept: making one of 32 layers takes as long as scoring a tiny model."""


def decoder_of(model: PreTrainedModel) -> nn.Module:
    """What turns tokens into final hidden states."""
    decoder: nn.Module = model.get_decoder()  # type: ignore[no-untyped-call]
    return decoder


def layers_of(model: PreTrainedModel, *, label: str) -> nn.ModuleList:
    """The decoder's layers.

    Raises:
        CheckpointError: if it has no list of layers, or several.
    """
    from torch.nn import ModuleList

    found = [child for child in decoder_of(model).children() if isinstance(child, ModuleList)]
    if len(found) != 1:
        raise CheckpointError(
            f"{label}: it has {len(found)} lists of layers in memory, and a path needs one",
            fix="use a model that is a language model only",
        )
    return found[0]


class Stacker:
    """Makes models of a donor's architecture out of layers in memory.

    A model is made from its configuration, without weights, so that every layer knows its own place (its
    number in the KV cache, the kind that the configuration gives it): it is built as transformers would build
    it to load such a checkpoint. Then weights and buffers are shared: the layers' with the layers that are
    given, all others with the donor.

    Args:
        donor: what stands around the layers.
    """

    def __init__(self, donor: PreTrainedModel) -> None:
        self._donor = donor
        self._blanks: dict[str, PreTrainedModel] = {}

    def stacked(
        self, config: PreTrainedConfig, layers: Sequence[nn.Module], labels: Sequence[str]
    ) -> PreTrainedModel:
        """The model of these layers, in evaluation mode.

        Args:
            config: with as many layers as there are.
            layers: of any models, in the order in which they shall run.
            labels: what errors call them.

        Raises:
            CheckpointError: if a layer does not fit the architecture.
        """
        model = _twin(self._blank(config))
        own, theirs = layers_of(model, label="the result"), layers_of(self._donor, label="the donor")
        for target, source, label in zip(own, layers, labels, strict=True):
            _share(target, source, label)
        _share(model, self._donor, "the donor", without=(own, theirs))
        model.generation_config = self._donor.generation_config
        return model

    def _blank(self, config: PreTrainedConfig) -> PreTrainedModel:
        """A model without weights; the few that a search goes to and fro between are kept."""
        import torch
        from transformers import AutoModelForCausalLM

        key = config.to_json_string(use_diff=False)
        model = self._blanks.pop(key, None)
        if model is None:
            with torch.device("meta"):
                model = AutoModelForCausalLM.from_config(  # type: ignore[no-untyped-call]
                    config, attn_implementation=self._donor.config._attn_implementation
                )
            model.train(False)
        self._blanks[key] = model
        if len(self._blanks) > _BLANKS:
            del self._blanks[next(iter(self._blanks))]
        return model


def _twin(module: Module) -> Module:
    """A module of its own in every part, with the same tensors."""
    twin = copy.copy(module)
    for key, value in vars(twin).items():
        if isinstance(value, dict):
            vars(twin)[key] = value.copy()
    for name, child in module.named_children():
        setattr(twin, name, _twin(child))
    return twin


def _share(target: nn.Module, source: nn.Module, label: str, without: tuple[nn.Module, ...] = ()) -> None:
    """Give a module the parameters and buffers of another of the same build."""
    if target in without:
        return
    tensors = dict(source.named_parameters(recurse=False)) | dict(source.named_buffers(recurse=False))
    names = [name for name, _ in target.named_parameters(recurse=False)]
    names += [name for name, _ in target.named_buffers(recurse=False)]
    children, others = dict(target.named_children()), dict(source.named_children())
    if children.keys() != others.keys() or dict.fromkeys(names).keys() != tensors.keys():
        differing = sorted((children.keys() ^ others.keys()) | (tensors.keys() ^ dict.fromkeys(names).keys()))
        raise _misfit(label, f"only one of them has {', '.join(differing)}")
    for name in names:
        if getattr(target, name).shape != tensors[name].shape:
            wanted, got = tuple(getattr(target, name).shape), tuple(tensors[name].shape)
            raise _misfit(label, f"{name} is {got} where {wanted} is wanted")
        setattr(target, name, tensors[name])
    for name, child in children.items():
        _share(child, others[name], label, without)


def _misfit(label: str, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{label} does not fit the donor's architecture: {reason}", fix="use models of one architecture"
    )
