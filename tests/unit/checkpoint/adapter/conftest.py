"""Adapters and models written by hand, as peft and transformers lay them down."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from mergery.checkpoint import Adapter, Checkpoint, Update

Tensors = Mapping[str, np.ndarray | torch.Tensor]


def _save(tensors: Tensors, file: Path) -> None:
    save_file({name: torch.as_tensor(value).clone().contiguous() for name, value in tensors.items()}, file)


@pytest.fixture
def make_base(tmp_path: Path) -> Callable[..., Checkpoint]:
    """Writes a model directory of these tensors, and opens it."""

    def make(tensors: Tensors, name: str = "base", **config: object) -> Checkpoint:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(config))
        _save(tensors, folder / "model.safetensors")
        return Checkpoint.open(folder)

    return make


@pytest.fixture
def write_adapter(tmp_path: Path) -> Callable[..., Path]:
    """Writes an adapter's directory; names get peft's prefix."""

    def make(
        tensors: Tensors, name: str = "adapter", *, prefix: str = "base_model.model.", **config: object
    ) -> Path:
        folder = tmp_path / name
        folder.mkdir()
        settings = {
            "peft_type": "LORA",
            "r": 2,
            "lora_alpha": 3,
            "base_model_name_or_path": str(tmp_path / "base"),
        }
        (folder / "adapter_config.json").write_text(json.dumps(settings | config))
        _save({prefix + key: value for key, value in tensors.items()}, folder / "adapter_model.safetensors")
        return folder

    return make


@pytest.fixture
def make_adapter(write_adapter: Callable[..., Path]) -> Callable[..., Adapter]:
    """The same, opened."""
    return lambda tensors, **settings: Adapter.open(write_adapter(tensors, **settings))


@pytest.fixture
def apply() -> Callable[..., np.ndarray]:
    """Applies an update to a copy of a tensor, a few rows at a time."""

    def run(update: Update, weights: np.ndarray, block: int = 3) -> np.ndarray:
        result = np.array(weights, np.float32)
        rows, loaded = result.reshape(update.rows, update.columns), update.load()
        step = update.rows if update.whole else block
        for first in range(0, update.rows, step):
            loaded.apply(rows[first : first + step], first)
        return result

    return run
