"""The result's ``config.json``, and what else a model directory needs beside its weights."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from mergery.checkpoint import Checkpoint
from mergery.checkpoint.architecture import LAYER_COUNT_KEYS

__all__ = ["copy_companions", "layer_count", "merged_config"]

_COMPANIONS = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.model",
    "chat_template*",
    "generation_config.json",
    "*processor_config.json",
)


def layer_count(checkpoint: Checkpoint) -> int:
    """Number of layers, from the tensors themselves."""
    return 1 + max((info.layer for info in checkpoint.tensors.values() if info.layer is not None), default=-1)


def merged_config(
    donor: Checkpoint, origin: Sequence[tuple[Checkpoint, int]], dtype: str | None
) -> dict[str, object]:
    """The donor's configuration with the result's layers and dtype.

    Args:
        donor: where it comes from.
        origin: for each layer of the result, the first model that it comes from and its layer there.
        dtype: of the result, if the recipe names one.
    """
    before = layer_count(donor)
    config = dict(donor.config)
    if dtype:
        config.pop("torch_dtype", None)
        config["dtype"] = dtype
    if [index for _, index in origin] == list(range(before)):
        return config
    for key, value in donor.config.items():
        if key in LAYER_COUNT_KEYS:
            config[key] = len(origin)
        elif isinstance(value, list) and len(value) == before:  # one entry a layer: layer_types and the like
            config[key] = [_entry(source.config.get(key), value, index) for source, index in origin]
    return config


def _entry(own: object, donors: list[object], index: int) -> object:
    """A layer's entry in its own model's list, else in the donor's."""
    entries = own if isinstance(own, list) and index < len(own) else donors
    return entries[min(index, len(entries) - 1)]


def copy_companions(source: Path, target: Path) -> Mapping[str, Path]:
    """Copy tokenizer, chat template and generation settings; the names copied, in order."""
    files = {
        file.name: file for pattern in _COMPANIONS for file in sorted(source.glob(pattern)) if file.is_file()
    }
    for name, file in files.items():
        shutil.copyfile(file, target / name)
    return files
