"""Model directories of every architecture that paths know."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers as hf

from layered import random_model

MakeKind = Callable[..., Path]


@pytest.fixture
def make_kind(tmp_path: Path, tokenizer: hf.PreTrainedTokenizerFast) -> MakeKind:
    """Writes ``tmp_path/name``: a random model of a kind."""

    def make(name: str, kind: str, seed: int, **changes: object) -> Path:
        random_model(kind, seed, **changes).save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
        return tmp_path / name

    return make


@pytest.fixture(scope="session")
def ids() -> torch.Tensor:
    """Ten thousand tokens."""
    return torch.randint(3, 40, (100, 100), generator=torch.Generator().manual_seed(5))
