"""Model directories opened as any user of transformers opens them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mergery.errors import CheckpointError, DeviceError

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["load_stock", "usable_device"]


def load_stock(directory: Path, device: str = "cpu") -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a model in float32, in evaluation mode, and its tokenizer; runs no code of the model's.

    Args:
        directory: a Hugging Face model directory.
        device: where the model shall live.

    Raises:
        CheckpointError: if transformers cannot load it by itself.
        DeviceError: if there is no such device.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    place = usable_device(device)
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            directory, dtype="float32", local_files_only=True, trust_remote_code=False
        )
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            directory, local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError) as problem:
        raise CheckpointError(
            f"{directory}: transformers cannot load it: {problem}", fix="check the directory's files"
        ) from problem
    model.to(place)  # type: ignore[arg-type]  # transformers declares no device
    model.train(False).requires_grad_(False)
    return model, tokenizer


def usable_device(device: str) -> torch.device:
    """The torch device of that name.

    Raises:
        DeviceError: if torch does not know it, or this machine does not have it.
    """
    import torch

    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as problem:
        reason = str(problem).partition("\n")[0]
        raise DeviceError(
            f"device {device}: cannot be used: {reason}", fix="use cpu, or a device that is there"
        ) from problem
