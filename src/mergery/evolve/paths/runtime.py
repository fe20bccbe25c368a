"""Paths as live stock models with shared weights, and what candidates that begin alike share."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from mergery.checkpoint import Checkpoint, ModelRef
from mergery.checkpoint.architecture import language_stacks
from mergery.engine import make_plan
from mergery.engine.alignment import Member
from mergery.engine.assembly import Restacked
from mergery.engine.configuration import merged_config
from mergery.engine.live import LiveMerge
from mergery.engine.stock import load_stock
from mergery.errors import CheckpointError, RecipeError
from mergery.evolve.paths.blocks import block_outputs
from mergery.evolve.paths.path import Path
from mergery.evolve.paths.prefixes import PrefixStates
from mergery.evolve.paths.stacking import Stacker, decoder_of, layers_of
from mergery.recipe import InputModel, OutputSlice, Recipe

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["DEFAULT_STATE_BYTES", "LayerForwards", "LivePaths"]

DEFAULT_STATE_BYTES = 2**30
"""Bytes of hidden states kept between candidates."""


@dataclass
class LayerForwards:
    """How often layers were run on a batch, and how often a kept state made that unnecessary.

    Attributes:
        done: layers run.
        saved: layers not run.
    """

    done: int = 0
    saved: int = 0

    @property
    def share_saved(self) -> float:
        """What was saved, as a share of what there was to do; 0 if there was nothing."""
        return self.saved / (self.done + self.saved) if self.saved else 0.0


@dataclass(frozen=True, eq=False)
class _Opened:
    """One model: as the engine sees it, and in memory; what merges it there, if it is a recipe's result."""

    member: Member
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    merging: LiveMerge | None = None

    @property
    def layers(self) -> nn.ModuleList:
        return layers_of(self.model, label=self.member.label)


class LivePaths:
    """Candidates of a path search: each a stock model, all with the same weights in memory.

    A candidate is what transformers would load from the model that its recipe
    (:func:`mergery.evolve.paths.path_recipe`) writes; only the gains are applied to outputs in place of
    weights, so files of 16-bit floats differ from it by their rounding.

    Passes over whole batches (``model(input_ids=..., use_cache=False)`` without gradients, as evaluators make
    them) begin at the longest prefix of hops that an earlier candidate ran on the same tokens. That is exact:
    the state kept is what the layers would compute again. Passes with a KV cache run every layer.

    Args:
        models: what the hops' numbers mean; the first is the donor. Recipes are merged in memory.
        device: where the models live.
        state_bytes: memory for hidden states; 0 shares nothing.

    Attributes:
        donor: the first model as it is, for its configuration.
        tokenizer: the donor's.
        depths: how many layers each model has.
        forwards: what sharing has saved so far.

    Raises:
        MergeryError: if a model cannot be opened or merged.
    """

    def __init__(
        self,
        models: Sequence[ModelRef | Recipe],
        *,
        device: str = "cpu",
        state_bytes: int = DEFAULT_STATE_BYTES,
    ) -> None:
        self.forwards = LayerForwards()
        self._states = PrefixStates(state_bytes)
        self._models = [_open(model, device) for model in models]
        donor = self._models[0]
        self.donor, self.tokenizer = donor.model, donor.tokenizer
        self._stack, self._stacker = _the_stack(donor.member), Stacker(donor.model)
        self.depths = tuple(len(model.layers) for model in self._models)

    @property
    def kept_bytes(self) -> int:
        """Size of the hidden states that are kept."""
        return self._states.size

    def refill(self, donor: Recipe) -> None:
        """Merge another donor in the place of the first, which was a recipe's result, too.

        Earlier models have the new donor's weights from then on, and no states are shared with them.

        Raises:
            MergeryError: if the recipe does not fit the models, or the merge is not finite.
        """
        merging = self._models[0].merging
        if merging is None:
            raise ValueError("the donor is a model, not a recipe's result")
        self._states.clear()
        merging.build(donor)

    def build(self, path: Path) -> PreTrainedModel:
        """A model of these hops, in evaluation mode, for evaluators and ``generate``.

        Earlier models stay usable.

        Raises:
            RecipeError: if a hop leads to no layer, or the architecture takes no gains.
            CheckpointError: if a layer does not fit the donor's architecture.
        """
        for hop in path.hops:
            if hop.model >= len(self._models) or hop.layer >= self.depths[hop.model]:
                raise RecipeError(
                    f"the path runs through layer {hop.layer} of model {hop.model}; the models have "
                    f"{', '.join(map(str, self.depths))} layers",
                    fix="number models and layers from 0",
                )
        layers = [self._models[hop.model].layers[hop.layer] for hop in path.hops]
        labels = [f"layer {hop.layer} of {self._models[hop.model].member.label}" for hop in path.hops]
        model = self._stacker.stacked(self._config(path), layers, labels)
        self._apply_gains(model, path)
        _Shared(model, self._states.enter(path), self._states, self.forwards)
        return model

    def _config(self, path: Path) -> PreTrainedConfig:
        """The configuration that the engine would write."""
        origin = tuple((self._models[hop.model].member, hop.layer) for hop in path.hops)
        donor = self._models[0].member
        config = merged_config(donor, [Restacked(self._stack, origin)], dtype="float32", untied=False)
        return type(self.donor.config).from_dict(config)

    def _apply_gains(self, model: PreTrainedModel, path: Path) -> None:
        donor = self._models[0].member
        for hop, layer in zip(path.hops, layers_of(model, label=donor.label), strict=True):
            if hop.gain != 1.0:
                for name in block_outputs(donor.config, where=donor.label).modules:
                    layer.get_submodule(name).register_forward_hook(partial(_times, hop.gain))


class _Shared:
    """Lets the layers of one model be skipped where their outcome is known.

    Args:
        model: a path's model; its layers are wrapped.
        keys: of every prefix of its path.
        states: what is known.
        forwards: where layers are counted.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        keys: tuple[bytes, ...],
        states: PrefixStates,
        forwards: LayerForwards,
    ) -> None:
        self._keys, self._states, self._forwards = keys, states, forwards
        self._batch: bytes | None = None
        self._known = 0
        self._state: Tensor | None = None
        decoder = decoder_of(model)
        decoder.register_forward_pre_hook(self._begin, with_kwargs=True)
        decoder.register_forward_hook(self._end, always_call=True)
        for number, layer in enumerate(layers_of(model, label="the path")):
            layer.forward = partial(self._hop, number, layer.forward)

    def _begin(self, decoder: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        ids = _plain_ids(decoder, args, kwargs)
        if ids is not None:
            self._batch = _digest(ids)
            self._known, self._state = self._states.longest(self._keys, self._batch)

    def _end(self, *_: object) -> None:
        self._batch, self._known, self._state = None, 0, None

    def _hop(
        self, number: int, forward: Callable[..., Any], hidden: Tensor, *args: Any, **kwargs: Any
    ) -> Any:
        if number < self._known:
            self._forwards.saved += 1
            return self._state if number == self._known - 1 else hidden
        self._forwards.done += 1
        output = forward(hidden, *args, **kwargs)
        if self._batch is not None and hasattr(output, "nbytes"):
            self._states.offer(self._keys[number], self._batch, output)
        return output


def _plain_ids(decoder: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor | None:
    """The tokens of a pass that is determined by them; ``None`` for any other."""
    import torch

    given = {f"argument {number}": value for number, value in enumerate(args)} | dict(kwargs)
    ids: Tensor | None = (
        given.pop("input_ids", None) if "input_ids" in given else given.pop("argument 0", None)
    )
    config = decoder.config
    plain = all(value is None or value is False for key, value in given.items() if key != "return_dict")
    recorded = getattr(config, "output_hidden_states", False) or getattr(config, "output_attentions", False)
    if ids is None or not plain or recorded or decoder.training or torch.is_grad_enabled():
        return None
    return ids


def _digest(ids: Tensor) -> bytes:
    """Names a batch by its tokens."""
    content = ids.cpu().contiguous().numpy()
    return hashlib.blake2b(
        f"{content.dtype} {content.shape} ".encode() + content.tobytes(), digest_size=16
    ).digest()


def _times(gain: float, module: nn.Module, args: object, output: Any) -> Any:  # noqa: ARG001 - a hook's
    """What a sublayer puts out, multiplied; of several things the first is what is added to the stream."""
    return (output[0] * gain, *output[1:]) if isinstance(output, tuple) else output * gain


def _open(model: ModelRef | Recipe, device: str) -> _Opened:
    if isinstance(model, ModelRef) and model.adapter is None:
        checkpoint = Checkpoint.open(model)
        return _Opened(Member.of(model, checkpoint), *load_stock(checkpoint.directory, device))
    if isinstance(model, ModelRef):  # the engine applies adapters
        model = Recipe("passthrough", (OutputSlice((InputModel(model),)),))
    plan = make_plan(model)
    label = f"the {model.merge_method} of {', '.join(str(ref) for ref in model.models)}"
    live = LiveMerge(model, device=device)
    member = Member(label, plan.config, {job.name: job.output for job in plan.jobs})
    return _Opened(member, live.build(model), live.tokenizer, live)


def _the_stack(member: Member) -> str:
    stacks = language_stacks(member.stacks)
    if len(stacks) != 1:
        raise CheckpointError(
            f"{member.label}: it has {len(stacks)} stacks of layers, and a path needs one",
            fix="use a model that is a language model only",
        )
    return stacks[0]
