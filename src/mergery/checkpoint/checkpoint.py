"""A model directory, opened by its headers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mergery.checkpoint.hub import locate
from mergery.checkpoint.ref import ModelRef
from mergery.checkpoint.safetensors import TensorInfo, read_header
from mergery.errors import CheckpointError

__all__ = ["INDEX_FILE", "SINGLE_FILE", "Checkpoint"]

SINGLE_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
_JSON_LIMIT = 200_000_000
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


@dataclass(frozen=True)
class Checkpoint:
    """A model directory: its configuration and its tensors' headers. No weight is read.

    Attributes:
        ref: how the user named it.
        directory: where it lies.
        config: its ``config.json``.
        tensors: by name, file after file, in the order of their bytes.
    """

    ref: ModelRef
    directory: Path
    config: Mapping[str, object]
    tensors: Mapping[str, TensorInfo]

    @classmethod
    def open(cls, model: ModelRef | Path | str) -> Checkpoint:
        """Open a model by its reference or path.

        Raises:
            CheckpointError: if it does not exist, is no model directory, is not safetensors, or is not
                whole.
        """
        ref = model if isinstance(model, ModelRef) else ModelRef(str(model))
        directory = locate(ref)
        config = read_json(directory / "config.json", missing="not a model directory: it has no config.json")
        tensors: dict[str, TensorInfo] = {}
        for file, named in _files(directory):
            found = {tensor.name: tensor for tensor in read_header(file)}
            astray = sorted(found.keys() ^ named) if named is not None else sorted(found.keys() & tensors)
            if astray:
                raise CheckpointError(
                    f"{file}: it and {INDEX_FILE} disagree about {astray[0]}",
                    fix="download or save the model again",
                )
            tensors |= found
        return cls(ref, directory, config, tensors)

    @property
    def files(self) -> tuple[Path, ...]:
        """The weight files, in order."""
        return tuple(dict.fromkeys(tensor.file for tensor in self.tensors.values()))

    @property
    def bytes(self) -> int:
        """Size of all tensors."""
        return sum(tensor.bytes for tensor in self.tensors.values())

    @property
    def parameters(self) -> int:
        """Number of elements of all tensors."""
        return sum(tensor.elements for tensor in self.tensors.values())


def read_json(file: Path, *, missing: str) -> Mapping[str, object]:
    """Read one JSON object of bounded size; ``missing`` says what it means if there is none."""
    try:
        if file.stat().st_size > _JSON_LIMIT:
            raise CheckpointError(f"{file}: too large to be what it says", fix="download the model again")
        data = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as problem:
        raise CheckpointError(
            f"{file.parent}: {missing}", fix="give a Hugging Face model directory"
        ) from problem
    except (OSError, ValueError) as problem:
        raise CheckpointError(f"{file}: cannot be read as JSON", fix="download the model again") from problem
    if not isinstance(data, dict):
        raise CheckpointError(f"{file}: not a JSON object", fix="download the model again")
    return data


def _files(directory: Path) -> list[tuple[Path, set[str] | None]]:
    """The weight files in order, each with the tensors that the index says it holds."""
    single, index = directory / SINGLE_FILE, directory / INDEX_FILE
    if single.exists():
        return [(single, None)]
    if not index.exists():
        raise _no_weights(directory)
    weight_map = read_json(index, missing="no index").get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{index}: it has no weight_map", fix="download or save the model again")
    named: dict[str, set[str]] = {}
    for tensor, file in weight_map.items():
        if not isinstance(file, str) or Path(file).name != file:
            raise CheckpointError(
                f"{index}: {tensor} is said to lie in {file!r}, which is no file name",
                fix="do not trust this model",
            )
        named.setdefault(file, set()).add(tensor)
    return [(directory / file, tensors) for file, tensors in sorted(named.items())]


def _no_weights(directory: Path) -> CheckpointError:
    pickle = next((file for pattern in _PICKLES for file in sorted(directory.glob(pattern))), None)
    if pickle:
        return CheckpointError(
            f"{directory}: its weights are a pickle ({pickle.name}), which can run code when it is opened",
            fix="use a safetensors version of the model; if you trust its author, make one with "
            "AutoModelForCausalLM.from_pretrained(old, weights_only=True).save_pretrained(new) "
            "of transformers, and merge that",
        )
    if (directory / "adapter_config.json").exists():
        return CheckpointError(
            f"{directory}: an adapter, not a model", fix="apply it to its base with peft and save the result"
        )
    return CheckpointError(
        f"{directory}: it has neither {SINGLE_FILE} nor {INDEX_FILE}",
        fix="give a Hugging Face model directory",
    )
