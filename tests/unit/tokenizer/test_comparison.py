"""Vocabularies compared by what they hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import models

from mergery.checkpoint import ModelRef
from mergery.errors import CheckpointError
from mergery.tokenizer import VocabularyDifference, compare_vocabularies, same_vocabulary

from .conftest import bpe_model, special


def compare(first: ModelRef, second: ModelRef) -> VocabularyDifference:
    return compare_vocabularies(Path(first.path), Path(second.path))


def test_the_same_in_other_bytes(save, tmp_path):
    a = save("a", bpe_model("abc", [("a", "b"), ("ab", "c")]))
    b = save("b", bpe_model("abc", [("a", "b"), ("ab", "c")]), settings={"model_max_length": 8})
    file = tmp_path / "b" / "tokenizer.json"
    content = json.loads(file.read_text())
    content["model"]["merges"] = ["a b", "ab c"]  # as older versions write them
    file.write_text(json.dumps(content))
    assert compare(a, b) == VocabularyDifference()
    assert same_vocabulary(tmp_path / "a", tmp_path / "b")
    assert compare(a, a).describe("A", "B") == ""


def test_other_tokens_and_ids(words):
    a = words("a", "<unk> cat dog cow", special("<im>"))
    b = words("b", "<unk> dog cat owl", special("<im>"), special("<end>"))
    found = compare(a, b)
    assert found == VocabularyDifference(only_first=1, only_second=2, other_ids=2)
    assert not found.same_vocabulary
    assert found.describe("A", "B") == "1 token only in A, 2 tokens only in B, 2 tokens with other ids"


def test_other_merges(save):
    a = save("a", bpe_model("abc", [("a", "b"), ("b", "c"), ("ab", "c")]))
    b = save("b", bpe_model("abc", [("a", "b"), ("b", "c"), ("a", "bc")]))
    found = compare(a, b)
    assert found == VocabularyDifference(joining=True)
    assert not found.same_vocabulary
    assert found.describe("A", "B") == "other merges or scores"


def test_other_scores(save):
    a = save("a", models.Unigram([("<unk>", 0.0), ("a", -1.0)], 0))
    b = save("b", models.Unigram([("<unk>", 0.0), ("a", -2.0)], 0))
    assert compare(a, b) == VocabularyDifference(joining=True)


def test_other_splitting_keeps_the_vocabulary_the_same(words, tmp_path):
    a, b = words("a", "<unk> cat"), words("b", "<unk> cat")
    file = tmp_path / "b" / "tokenizer.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"normalizer": {"type": "Lowercase"}}))
    found = compare(a, b)
    assert found.same_vocabulary
    assert found.describe("A", "B") == "text split in another way"


def test_a_model_without_tokenizer(words, tmp_path):
    words("a", "<unk> cat")
    (tmp_path / "bare").mkdir()
    for other in ("bare", "a"):
        with pytest.raises(CheckpointError, match="no tokenizer"):
            same_vocabulary(tmp_path / "bare", tmp_path / other)
