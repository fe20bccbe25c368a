"""Model directories of a few small tensors, written for plans."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file


@pytest.fixture
def write_model(tmp_path: Path) -> Callable[..., Path]:
    """Writes ``tmp_path/name`` with tensors of the given shapes, all zero."""

    def write(
        name: str,
        shapes: Mapping[str, tuple[int, ...]],
        *,
        dtype: torch.dtype = torch.float32,
        **config: object,
    ) -> Path:
        directory = tmp_path / name
        directory.mkdir()
        tensors = {tensor: torch.zeros(shape, dtype=dtype) for tensor, shape in shapes.items()}
        save_file(tensors, directory / "model.safetensors", {"format": "pt"})
        (directory / "config.json").write_text(json.dumps(config))
        return directory

    return write
