"""The result's ``config.json``, and what else a model directory needs beside its weights."""

from __future__ import annotations

import copy
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from mergery.checkpoint.architecture import EXCEPTIONS, language_stacks, module_of
from mergery.engine.alignment import Member
from mergery.engine.assembly import Restacked
from mergery.errors import CheckpointError

__all__ = ["configured_layers", "copy_companions", "merged_config", "text_config"]

_PROCESSORS = ("*processor_config.json",)
_COMPANIONS = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.model",
    "chat_template*",
    "generation_config.json",
    *_PROCESSORS,
)

_COUNTS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers", "depth")
_ENCODER_COUNTS = ("encoder_layers", "num_encoder_layers")
_DECODER_COUNTS = ("decoder_layers", "num_decoder_layers")
_TEXT = ("text_config", "llm_config", "language_config")
_TOWERS = {
    "vision_tower": ("vision_config", "vit_config", "visual"),
    "audio_tower": ("audio_config", "speech_config"),
}
_ENCODER = re.compile(r"(^|\.)encoder\.")
_DECODER = re.compile(r"(^|\.)decoder\.")

_LAYER_NUMBERS: list[str] = EXCEPTIONS["lists"]["of_layers"]
_OTHER_LISTS = re.compile(EXCEPTIONS["lists"]["of_other_things"])


def merged_config(
    leader: Member, restacked: Sequence[Restacked], *, dtype: str | None, untied: bool
) -> dict[str, object]:
    """The leader's configuration with the result's layers and dtype.

    Args:
        leader: where it comes from.
        restacked: the stacks of layers that were put together from slices.
        dtype: of the result, if the recipe names one.
        untied: whether the result has an output matrix of its own.

    Raises:
        CheckpointError: if the configuration does not say how many layers a changed stack has.
    """
    config: dict[str, object] = copy.deepcopy(dict(leader.config))
    if dtype:
        config.pop("torch_dtype", None)
        config["dtype"] = dtype
        for inner in _parts(config):
            for key in ("torch_dtype", "dtype"):
                if inner.get(key) is not None:
                    inner[key] = dtype
    if untied:
        config["tie_word_embeddings"] = False
        for inner in _parts(config):
            if "tie_word_embeddings" in inner:
                inner["tie_word_embeddings"] = False
    for stack in restacked:
        if any(member is not leader for member, _ in stack.origin) or [
            index for _, index in stack.origin
        ] != list(range(leader.depth(stack.stack))):
            _restack(config, leader, stack)
    return config


def text_config(config: Mapping[str, object]) -> Mapping[str, object]:
    """The part of a configuration that speaks of the language model."""
    return next((inner for key in _TEXT if isinstance(inner := config.get(key), dict)), config)


def configured_layers(config: Mapping[str, object], stack: str) -> dict[str, int]:
    """The numbers of layers that a configuration gives for a stack, by key."""
    return {
        key: value
        for _, part in _parts_for(dict(config), stack)
        for key in _count_keys(part, stack)
        if isinstance(value := part[key], int)
    }


def _restack(config: dict[str, object], leader: Member, stack: Restacked) -> None:
    """Write the number of layers, and every list that has one entry a layer."""
    before = leader.depth(stack.stack)
    counted = False
    for inside, part in _parts_for(config, stack.stack):
        for key in _count_keys(part, stack.stack):
            if part[key] == before:
                part[key] = len(stack.origin)
                counted = True
        for key, value in part.items():
            if isinstance(value, list) and not _OTHER_LISTS.search(key):
                origin = [
                    (_at(member.config, inside).get(key, value), index) for member, index in stack.origin
                ]
                if key in _LAYER_NUMBERS:
                    part[key] = [
                        new
                        for new, (own, index) in enumerate(origin)
                        if isinstance(own, list) and index in own
                    ]
                elif len(value) == before:
                    part[key] = [_entry(own, value, index) for own, index in origin]
    if not counted and len(stack.origin) != before:
        raise CheckpointError(
            f"{leader.label}: its configuration nowhere says that {stack.stack.rstrip('.')} has {before} "
            f"layers, so it cannot be made to say {len(stack.origin)}",
            fix="merge whole models, with models:",
        )


def _entry(own: object, leaders: list[object], index: int) -> object:
    """A layer's entry in its own model's list, else in the leader's."""
    entries = own if isinstance(own, list) and index < len(own) else leaders
    return entries[min(index, len(entries) - 1)]


def _parts(config: Mapping[str, object]) -> Iterator[dict[str, object]]:
    """The configurations of the model's parts, inside its own."""
    yield from (
        inner
        for key, inner in config.items()
        if isinstance(inner, dict) and (key.endswith("_config") or key == "visual")
    )


def _parts_for(config: dict[str, object], stack: str) -> Iterator[tuple[str | None, dict[str, object]]]:
    """What speaks of one stack of layers: the configuration itself, its parts, each with its key there."""
    keys = _TOWERS.get(module_of(stack), ())
    if language_stacks([stack]):
        yield None, config
        keys = _TEXT
    for key in keys:
        inner = config.get(key)
        if isinstance(inner, dict):
            yield key, inner


def _at(config: Mapping[str, object], key: str | None) -> Mapping[str, object]:
    inner = config if key is None else config.get(key)
    return inner if isinstance(inner, Mapping) else {}


def _count_keys(part: Mapping[str, object], stack: str) -> list[str]:
    """The keys of one part that hold the number of layers of one stack."""
    if _DECODER.search(stack):
        # its own key; a configuration that has one speaks of its encoder with the others
        return [key for key in _DECODER_COUNTS if key in part] or [key for key in _COUNTS if key in part]
    if _ENCODER.search(stack):
        return [key for key in (*_ENCODER_COUNTS, *_COUNTS) if key in part]
    return [key for key in _COUNTS if key in part]


def copy_companions(source: Path, target: Path, *, tokenizer: bool = True) -> Mapping[str, Path]:
    """Copy tokenizer, chat template and generation settings; the names copied, in order.

    Args:
        source: the directory that they come from.
        target: the directory that they go to.
        tokenizer: whether the tokenizer is among them; if not, only settings of processors are copied.
    """
    patterns = _COMPANIONS if tokenizer else _PROCESSORS
    files = {
        file.name: file for pattern in patterns for file in sorted(source.glob(pattern)) if file.is_file()
    }
    for name, file in files.items():
        shutil.copyfile(file, target / name)
    return files
