"""A ``tokenizer.json`` with other tokens in it.

The tokenizers library numbers the tokens that it finds before it splits the text (*added* ones) itself,
whatever numbers the file gives them, unless the model's own vocabulary has them too. So where its
numbers would be others than ours, every token goes into the model's vocabulary. There the added ones do
no harm: no merge makes them, and text is searched for them first.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeAlias

from tokenizers import Tokenizer

from mergery.errors import CheckpointError
from mergery.tokenizer.reading import Flags, TokenizerFile

__all__ = ["Merge", "Pieces", "model_pieces", "revised"]

Merge: TypeAlias = tuple[str, str]

# below every score of the model: as SentencePiece puts its unknown piece
_SCORE_STEP = 10.0


class Pieces:
    """The model of a tokenizer: its own vocabulary and how it joins pieces.

    Attributes:
        scores: of a Unigram model's pieces; empty in other models.
        ids: row of each piece.
        merges: of a BPE model, in order of priority; empty in other models.
        prefix: of a piece that continues a word, if the model marks them.
    """

    def __init__(self, definition: Mapping[str, object]) -> None:
        model = definition["model"]
        assert isinstance(model, dict)
        vocabulary = model["vocab"]
        unigram = isinstance(vocabulary, list)
        self.scores: dict[str, float] = dict(vocabulary) if unigram else {}
        self.ids: dict[str, int] = (
            {text: row for row, (text, _) in enumerate(vocabulary)} if unigram else vocabulary
        )
        merges = model.get("merges") or ()
        pairs = (merge.split(" ", 1) if isinstance(merge, str) else merge for merge in merges)
        self.merges: list[Merge] = [(left, right) for left, right in pairs]
        self.prefix: str = model.get("continuing_subword_prefix") or ""

    def joined(self, merge: Merge) -> str:
        """The piece that a merge makes."""
        left, right = merge
        return left + right.removeprefix(self.prefix)


def model_pieces(file: TokenizerFile) -> Pieces:
    """The model of a tokenizer."""
    return Pieces(file.definition)


def revised(
    donor: TokenizerFile,
    ids: Mapping[str, int],
    added: Mapping[str, Flags],
    pieces: Mapping[str, float | None],
    merges: Sequence[Merge],
) -> str:
    """The donor's ``tokenizer.json`` with another table of tokens.

    Args:
        donor: the tokenizer to start from.
        ids: every token of the result and its row.
        added: those to be found in text before it is split.
        pieces: those to be new in the model's vocabulary, with their scores, if they have any.
        merges: new ones, after the donor's own.

    Raises:
        CheckpointError: if a token that the tokenizer cannot do without is not in the table, or the
            table cannot be written in this kind of tokenizer.
    """
    # new pieces change how the library counts; otherwise its own numbers are mostly right
    for pinned in (False, True) if not pieces else (True,):
        definition = donor.definition
        everything = dict.fromkeys(added) if pinned else {}
        _revise_model(definition, ids, everything | dict(pieces), merges)
        definition["added_tokens"] = [
            {"id": ids[text], "content": text, **flags}
            for text, flags in sorted(added.items(), key=lambda item: ids[item[0]])
        ]
        processor = definition["post_processor"]
        definition["post_processor"] = _renumbered(processor, partial(_row, donor, ids))
        _renumber_padding(definition, ids)
        text = json.dumps(definition, ensure_ascii=False, indent=2)
        if _numbers(text, donor) == ids:
            return text
    raise CheckpointError(
        f"{donor.directory}: its tokens' numbers have gaps, which a {donor.kind} tokenizer cannot keep",
        fix="take another model's tokenizer",
    )


def _numbers(text: str, donor: TokenizerFile) -> dict[str, int]:
    """The rows that the library gives the tokens."""
    try:
        return Tokenizer.from_str(text).get_vocab(with_added_tokens=True)
    except Exception as problem:  # the library raises nothing narrower
        raise CheckpointError(
            f"{donor.directory}: its tokenizer does not take the tokens: {problem}",
            fix="take another model's tokenizer",
        ) from problem


def _revise_model(
    definition: dict[str, object],
    ids: Mapping[str, int],
    pieces: Mapping[str, float | None],
    merges: Sequence[Merge],
) -> None:
    model = definition["model"]
    assert isinstance(model, dict)
    old = Pieces(definition)
    rows = {text: ids[text] for text in (*old.ids, *pieces) if text in ids}
    ordered = sorted(rows, key=rows.__getitem__)
    if old.scores:
        lowest = min(old.scores.values()) - _SCORE_STEP
        scores = {text: lowest if score is None else score for text, score in pieces.items()} | old.scores
        model["vocab"] = [[text, scores[text]] for text in ordered]
    else:
        model["vocab"] = {text: rows[text] for text in ordered}
    if old.merges:
        model["merges"] = [
            merge
            for merge in (*old.merges, *merges)
            if merge[0] in rows and merge[1] in rows and old.joined(merge) in rows
        ]


def _renumbered(value: object, row: Callable[[str], int]) -> object:
    """Give the tokens that are put around a text their rows; post-processors nest."""
    if isinstance(value, list):
        return [_renumbered(entry, row) for entry in value]
    if not isinstance(value, dict):
        return value
    if isinstance(value.get("tokens"), list) and isinstance(value.get("ids"), list):
        return value | {"ids": [row(text) for text in value["tokens"]]}
    return {
        key: [entry[0], row(entry[0])] if key in ("sep", "cls") else _renumbered(entry, row)
        for key, entry in value.items()
    }


def _row(donor: TokenizerFile, ids: Mapping[str, int], text: str) -> int:
    if text not in ids:
        raise CheckpointError(
            f"{donor.directory}: its tokenizer puts {text!r} around texts, which has no embedding row",
            fix="take another model's tokenizer",
        )
    return ids[text]


def _renumber_padding(definition: dict[str, object], ids: Mapping[str, int]) -> None:
    padding = definition.get("padding")
    if isinstance(padding, dict):
        text = padding.get("pad_token")
        known = isinstance(text, str) and text in ids
        definition["padding"] = padding | {"pad_id": ids[str(text)]} if known else None
