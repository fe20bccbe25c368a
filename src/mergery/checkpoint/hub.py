"""From a reference to a directory: one that is there, or one downloaded from the Hugging Face hub."""

from __future__ import annotations

import re
from pathlib import Path

from mergery.checkpoint.ref import ModelRef
from mergery.errors import CheckpointError

__all__ = ["locate", "on_hub"]

_HUB_ID = re.compile(r"^[\w.-]+/[\w.-]+$")
_FILES = ("*.safetensors", "*.safetensors.index.json", "*.json", "*.model", "*.txt", "*.jinja")
_UNWANTED = ("consolidated*", "original/*", "onnx/*", "*/*")


def locate(ref: ModelRef) -> Path:
    """The directory that holds the model.

    Args:
        ref: a path, or a Hugging Face model id with an optional revision; its adapter is not looked for.

    Returns:
        The path itself if it is a directory; otherwise the hub's snapshot in the local cache.

    Raises:
        CheckpointError: if there is neither.
    """
    path = Path(ref.path).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise CheckpointError(f"{ref.path}: not a directory", fix="give the directory that holds config.json")
    if not on_hub(ref):
        raise CheckpointError(f"{ref.path}: does not exist", fix="check the path of the model directory")
    return _download(ref)


def on_hub(ref: ModelRef) -> bool:
    """Whether the model is looked for on the Hugging Face hub: its path is not here, and reads like an id."""
    there = Path(ref.path).expanduser().exists()
    return not there and _HUB_ID.match(ref.path) is not None and not ref.path.startswith(".")


def _download(ref: ModelRef) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        return Path(
            snapshot_download(
                ref.path,
                revision=ref.revision,
                allow_patterns=list(_FILES),
                ignore_patterns=list(_UNWANTED),
            )
        )
    except RepositoryNotFoundError as problem:
        raise CheckpointError(
            f"{ref}: no such directory, and no such model on the Hugging Face hub",
            fix="check the path or the model id; for a gated model log in with `hf auth login`",
        ) from problem
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as problem:
        raise CheckpointError(
            f"{ref}: no such directory, and the Hugging Face hub cannot be reached",
            fix="check the path, or the connection",
        ) from problem
