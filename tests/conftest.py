"""Tiny real models, made on the spot."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

WORDS = tuple("the cat dog bird sees has takes one two three four five and or but a b c d . ?".split())  # noqa: SIM905


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    """Models this small run slower on two threads than on one."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer trained on a few sentences."""
    trained = Tokenizer(models.WordLevel(unk_token="<unk>"))
    trained.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trained.train_from_iterator(
        [" ".join(WORDS)] * 3, trainers.WordLevelTrainer(special_tokens=["<unk>", "<pad>"])
    )
    return PreTrainedTokenizerFast(tokenizer_object=trained, unk_token="<unk>", pad_token="<pad>")


MakeModel = Callable[..., Path]


@pytest.fixture
def make_model(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> MakeModel:
    """Writes ``tmp_path/name``: a random Llama; ``near`` another one if its seed is given."""

    def make(
        name: str,
        seed: int = 0,
        *,
        near: int | None = None,
        dtype: torch.dtype = torch.float32,
        shard: str = "5GB",
        **config: object,
    ) -> Path:
        settings: dict[str, object] = {
            "vocab_size": len(tokenizer),
            "hidden_size": 16,
            "intermediate_size": 24,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "num_key_value_heads": 1,
            "max_position_embeddings": 64,
            "tie_word_embeddings": True,
            "initializer_range": 0.2,
        }
        torch.manual_seed(seed if near is None else near)
        model = LlamaForCausalLM(LlamaConfig(**(settings | config)))
        if near is not None:
            torch.manual_seed(1000 + seed)
            with torch.no_grad():
                for parameter in model.parameters():
                    parameter += 0.05 * torch.randn_like(parameter)
        directory = tmp_path / name
        model.to(dtype).save_pretrained(directory, max_shard_size=shard)
        tokenizer.save_pretrained(directory)
        return directory

    return make
