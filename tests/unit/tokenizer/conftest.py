"""Small real tokenizers in directories of their own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from mergery.checkpoint import ModelRef

MakeTokenizer = Callable[..., ModelRef]


def special(text: str, **flags: bool) -> AddedToken:
    return AddedToken(text, **({"special": True, "normalized": False} | flags))


def bpe_model(letters: str, merges: Iterable[tuple[str, str]]) -> models.BPE:
    """A BPE model with these letters and merges; pieces are numbered in order of appearance."""
    merges = list(merges)
    pieces = dict.fromkeys([*letters, *("".join(merge) for merge in merges)])
    return models.BPE({piece: row for row, piece in enumerate(pieces)}, merges)


@pytest.fixture
def save(tmp_path: Path) -> MakeTokenizer:
    """Saves a tokenizer as ``tmp_path/name``, and says how a recipe refers to it."""

    def make(
        name: str,
        model: models.Model,
        added: Iterable[AddedToken] = (),
        settings: Mapping[str, object] | None = None,
        config: Mapping[str, object] | None = None,
    ) -> ModelRef:
        tokenizer = Tokenizer(model)
        if isinstance(model, models.Unigram):
            tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
            tokenizer.decoder = decoders.Metaspace()
        else:
            tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        tokenizer.add_tokens(list(added))
        directory = tmp_path / name
        directory.mkdir()
        tokenizer.save(str(directory / "tokenizer.json"))
        settings = {"tokenizer_class": "PreTrainedTokenizerFast"} | dict(settings or {})
        (directory / "tokenizer_config.json").write_text(json.dumps(settings))
        (directory / "config.json").write_text(json.dumps({"model_type": "llama"} | dict(config or {})))
        return ModelRef(str(directory))

    return make


@pytest.fixture
def words(save: MakeTokenizer) -> MakeTokenizer:
    """Saves a tokenizer of whole words, numbered as they are listed."""

    def make(name: str, text: str, *others: AddedToken, **more: Mapping[str, object]) -> ModelRef:
        listed = text.split()
        vocabulary = {word: row for row, word in enumerate(listed)}
        return save(name, models.WordLevel(vocabulary, unk_token=listed[0]), others, **more)

    return make
