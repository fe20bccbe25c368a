"""The result's table of tokens: which there are, and in which row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from mergery.checkpoint.ref import ModelRef
from mergery.tokenizer.definition import Merge, model_pieces
from mergery.tokenizer.reading import Flags, TokenizerFile, role_text

__all__ = ["TokenTable", "make_table", "quoted", "union_merges", "union_scores"]

_ROLES = ("bos_token", "eos_token", "pad_token")
_SHOWN = 5
# of a token that a recipe names and no model has: found as it stands, part of the text
_PLAIN: Flags = {
    "single_word": False,
    "lstrip": False,
    "rstrip": False,
    "normalized": False,
    "special": False,
}


@dataclass(frozen=True)
class TokenTable:
    """Tokens of the result.

    Attributes:
        ids: every token and its row.
        added: those that are found in text before it is split, with their flags.
        pieces: those new in the model's vocabulary, with the model that they come from.
        notes: what was decided on the way.
    """

    ids: Mapping[str, int]
    added: Mapping[str, Flags]
    pieces: Mapping[str, ModelRef]
    notes: tuple[str, ...]


def make_table(
    donor: ModelRef,
    files: Mapping[ModelRef, TokenizerFile],
    rows: Mapping[ModelRef, int],
    *,
    union: bool,
    named: Iterable[str],
) -> TokenTable:
    """The donor's tokens in their rows, then what comes to them.

    Args:
        donor: whose tokenizer it starts from.
        files: of all models, in the recipe's order.
        rows: of their embeddings; tokens beyond them are dropped.
        union: whether the other models' tokens are appended: first those that text is split into, of
            one model after the other, in the order of their rows, then the added ones likewise.
        named: tokens to append in any case.
    """
    kept = {model: _kept(file, rows[model]) for model, file in files.items()}
    notes = [note for model, file in files.items() for note in _dropped(model, file, rows[model])]
    ids = dict(kept[donor])
    added = {text: flags for text, flags in files[donor].added.items() if text in ids}
    pieces: dict[str, ModelRef] = {}
    if union:
        incoming, conflicts = _incoming(donor, files, kept, added)
        notes += [*conflicts, *_other_roles(donor, files)]
        for model, own in kept.items():
            fresh = (text for text in own if text not in ids and text not in incoming)
            pieces |= {text: model for text in fresh if text not in pieces}
        added |= incoming
    everywhere = [files[donor], *files.values()]
    for text in named:
        if text not in ids and text not in added and text not in pieces:
            added[text] = next((file.added[text] for file in everywhere if text in file.added), _PLAIN)
    following = 1 + max(ids.values(), default=-1)
    fresh = (text for text in (*pieces, *added) if text not in ids)
    ids |= {text: row for row, text in enumerate(fresh, start=following)}
    return TokenTable(ids, added, pieces, tuple(notes))


def union_merges(donor: ModelRef, files: Mapping[ModelRef, TokenizerFile], table: TokenTable) -> list[Merge]:
    """The merges that make the new pieces, in their own models' order; none unless both sides are BPE."""
    if files[donor].kind != "BPE":
        return []
    merges: dict[Merge, None] = {}
    for model in dict.fromkeys(table.pieces.values()):
        if files[model].kind == "BPE":
            source = model_pieces(files[model])
            fresh = (merge for merge in source.merges if table.pieces.get(source.joined(merge)) == model)
            merges |= dict.fromkeys(fresh)
    return list(merges)


def union_scores(
    donor: ModelRef, files: Mapping[ModelRef, TokenizerFile], table: TokenTable
) -> dict[str, float | None]:
    """Every new piece with its score in its own model, where both sides have scores (Unigram)."""
    scores: dict[str, float | None] = dict.fromkeys(table.pieces)
    if files[donor].kind == "Unigram":
        for model in dict.fromkeys(table.pieces.values()):
            own = model_pieces(files[model]).scores
            scores |= {text: own.get(text) for text, owner in table.pieces.items() if owner == model}
    return scores


def quoted(tokens: Iterable[str]) -> str:
    """The first few tokens, in quotes."""
    texts = list(tokens)
    shown = ", ".join(repr(text) for text in texts[:_SHOWN])
    return shown + (f" and {len(texts) - _SHOWN} more" if len(texts) > _SHOWN else "")


def _kept(file: TokenizerFile, rows: int) -> dict[str, int]:
    """Tokens that the embeddings have a row for."""
    return {text: row for text, row in file.ids.items() if row < rows}


def _dropped(model: ModelRef, file: TokenizerFile, rows: int) -> Iterator[str]:
    beyond = [text for text, row in file.ids.items() if row >= rows]
    if beyond:
        yield (
            f"{model}: tokens without a row in its embeddings ({rows} rows) do not count as its own: "
            f"{quoted(beyond)}"
        )


def _incoming(
    donor: ModelRef,
    files: Mapping[ModelRef, TokenizerFile],
    kept: Mapping[ModelRef, Mapping[str, int]],
    present: Mapping[str, Flags],
) -> tuple[dict[str, Flags], list[str]]:
    """Added tokens of the other models, and notes on those that are defined in two ways."""
    incoming: dict[str, Flags] = {}
    notes = []
    for model, file in files.items():
        own = {text: flags for text, flags in file.added.items() if text in kept[model]}
        known = {**present, **incoming}
        differing = [
            text
            for text, flags in own.items()
            if (text in known and known[text] != flags) or (text not in known and text in kept[donor])
        ]
        if differing and model != donor:
            notes.append(
                f"{model}: defined otherwise in a model before it, which counts: {quoted(differing)}"
            )
        incoming |= {
            text: flags for text, flags in own.items() if text not in known and text not in kept[donor]
        }
    return incoming, notes


def _other_roles(donor: ModelRef, files: Mapping[ModelRef, TokenizerFile]) -> Iterator[str]:
    for role in _ROLES:
        text = role_text(files[donor].settings.get(role))
        for model, file in files.items():
            other = role_text(file.settings.get(role))
            if text and other and other != text:
                yield f"{role} is {text!r}, as {donor} has it; {model} has {other!r}"
