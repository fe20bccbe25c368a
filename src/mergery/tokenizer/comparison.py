"""Whether two models' tokenizers have the same vocabulary, by what they hold."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mergery.tokenizer.definition import model_pieces
from mergery.tokenizer.reading import read_tokenizer, tokenizer_digest

__all__ = ["VocabularyDifference", "compare_vocabularies", "same_vocabulary"]

_SPLITTING = ("normalizer", "pre_tokenizer")


@dataclass(frozen=True)
class VocabularyDifference:
    """What tells two vocabularies apart.

    Attributes:
        only_first: number of tokens that only the first has.
        only_second: number of tokens that only the second has.
        other_ids: number of tokens that both have, in different rows.
        joining: whether pieces are joined in another way: other merges, other scores, another kind of
            model.
        splitting: whether text is normalised or split in another way before that. The vocabularies may
            still be the same.
    """

    only_first: int = 0
    only_second: int = 0
    other_ids: int = 0
    joining: bool = False
    splitting: bool = False

    @property
    def same_vocabulary(self) -> bool:
        """Whether tokens, ids and merges are the same."""
        return not (self.only_first or self.only_second or self.other_ids or self.joining)

    def describe(self, first: str, second: str) -> str:
        """The difference in one line; empty if there is none."""
        parts = [
            f"{_tokens(self.only_first)} only in {first}" if self.only_first else "",
            f"{_tokens(self.only_second)} only in {second}" if self.only_second else "",
            f"{_tokens(self.other_ids)} with other ids" if self.other_ids else "",
            "other merges or scores" if self.joining else "",
            "text split in another way" if self.splitting else "",
        ]
        return ", ".join(part for part in parts if part)


def same_vocabulary(first: Path, second: Path) -> bool:
    """Whether two model directories' tokenizers have the same tokens, ids and merges.

    Raises:
        CheckpointError: if one of them cannot be read.
    """
    return compare_vocabularies(first, second).same_vocabulary


def compare_vocabularies(first: Path, second: Path) -> VocabularyDifference:
    """How the tokenizers of two model directories differ.

    Raises:
        CheckpointError: if one of them cannot be read.
    """
    if tokenizer_digest(first) == tokenizer_digest(second):
        read_tokenizer(first)  # it may be that neither has one
        return VocabularyDifference()
    one, other = read_tokenizer(first), read_tokenizer(second)
    if one.text == other.text:
        return VocabularyDifference()
    mine, theirs = one.definition, other.definition
    shared = [text for text in one.ids if text in other.ids]
    pieces, others = model_pieces(one), model_pieces(other)
    return VocabularyDifference(
        only_first=len(one.ids) - len(shared),
        only_second=len(other.ids) - len(shared),
        other_ids=sum(one.ids[text] != other.ids[text] for text in shared),
        joining=one.kind != other.kind or pieces.merges != others.merges or pieces.scores != others.scores,
        splitting=any(mine[key] != theirs[key] for key in _SPLITTING),
    )


def _tokens(count: int) -> str:
    return f"{count} token" + "s" * (count != 1)
