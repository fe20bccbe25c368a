"""The vocabulary of a merge of models whose tokenizers differ."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path

import numpy as np

from mergery.checkpoint.ref import ModelRef
from mergery.errors import RecipeError, near_miss
from mergery.tokenizer.definition import revised
from mergery.tokenizer.reading import TokenizerFile, has_tokenizer, read_tokenizer, tokenizer_digest
from mergery.tokenizer.rows import ZERO, RowMap, Rows, row_maps
from mergery.tokenizer.settings import ModelToken, TokenizerSettings, TokenSource, VocabularySource, Zero
from mergery.tokenizer.table import TokenTable, make_table, quoted, union_merges, union_scores

__all__ = ["Vocabulary", "build_vocabulary"]


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The result's tokens, and where each model's embedding rows go.

    Attributes:
        models: in the order that the maps' numbers refer to.
        donor: whose tokenizer the result's is made from; its tokens keep their ids.
        tokens: every token and its id.
        rows: of the result's embeddings; at least as many as ids.
        maps: for each model, its rows in the result.
        renumbering: for each model, the result's id for each of its ids; -1 if it has none.
        directories: where the models lie.
        definition: the result's ``tokenizer.json``, if it is not the donor's as it stands.
        notes: what was decided and dropped on the way, one sentence each.
    """

    models: tuple[ModelRef, ...]
    donor: ModelRef
    tokens: Mapping[str, int]
    rows: int
    maps: Mapping[ModelRef, RowMap]
    renumbering: Mapping[ModelRef, Rows]
    directories: Mapping[ModelRef, Path]
    definition: str | None
    notes: tuple[str, ...]

    @property
    def identity(self) -> bool:
        """Whether every model's rows are taken as they are."""
        return all(rows.identity for rows in self.maps.values())


def build_vocabulary(
    settings: TokenizerSettings,
    models: Mapping[ModelRef, Path],
    base: ModelRef | None,
    embedding_rows: Mapping[ModelRef, int],
    *,
    trim: bool = False,
) -> Vocabulary:
    """Decide the result's vocabulary and every model's rows in it.

    Args:
        settings: the recipe's ``tokenizer:``.
        models: all models of the merge with their directories, in the recipe's order.
        base: the base model, if there is one; otherwise the first listed lends its tokenizer.
        embedding_rows: of each model.
        trim: give the result no more rows than its tokens need, as mergekit 0.1 does, even if the
            donor has some to spare.

    Raises:
        RecipeError: if the settings name a model or a token that is not there.
        CheckpointError: if a tokenizer cannot be read or changed.
    """
    donor = _donor(settings.source, models, base)
    files, notes = _read_all(models, donor if base is None else base)
    union = settings.source == "union"
    table = make_table(donor, files, embedding_rows, union=union, named=settings.tokens)
    rows = 1 + max(table.ids.values(), default=-1)
    if not trim:
        rows = max(rows, embedding_rows[donor])
    rows += -rows % (settings.pad_to_multiple_of or 1)
    own = _own_rows(table, files, embedding_rows, rows, spare=not trim)
    chosen = {
        table.ids[token]: _chosen(token, wanted.source, files, embedding_rows)
        for token, wanted in settings.tokens.items()
        if wanted.source is not None
    }
    maps = row_maps(
        own,
        _places(table),
        base=None if base is None else list(models).index(base),
        chosen=chosen,
        forced=[table.ids[token] for token, wanted in settings.tokens.items() if wanted.force],
        embedding_rows=[embedding_rows[model] for model in models],
    )
    return Vocabulary(
        tuple(models),
        donor,
        table.ids,
        rows,
        dict(zip(models, maps, strict=True)),
        {
            model: _renumbering(file, table.ids, embedding_rows[model], is_donor=model == donor)
            for model, file in files.items()
        },
        dict(models),
        _definition(donor, files, table),
        (*notes, *table.notes, *_notes_on_pieces(donor, files, table), *_orphans(table, own, chosen)),
    )


def _donor(source: VocabularySource, models: Mapping[ModelRef, Path], base: ModelRef | None) -> ModelRef:
    first = base or next(iter(models))
    donor = source if isinstance(source, ModelRef) else first
    for where, model in (("base_model", first), ("tokenizer.source", donor)):
        _check_model(where, model, models)
    return donor


def _check_model(where: str, model: ModelRef, models: Mapping[ModelRef, object]) -> None:
    if model not in models:
        raise RecipeError(
            f"{where}: {model} is not one of the merge's models", fix=near_miss(str(model), map(str, models))
        )


def _read_all(
    models: Mapping[ModelRef, Path], base: ModelRef
) -> tuple[dict[ModelRef, TokenizerFile], list[str]]:
    """Every model's tokenizer; a model without one is taken to have the base's."""
    files: dict[ModelRef, TokenizerFile] = {}
    read: dict[str, TokenizerFile] = {}  # many models have the very same files
    notes = []
    for model, directory in models.items():
        home = directory
        if not has_tokenizer(directory) and model != base:
            notes.append(f"{model}: it has no tokenizer; {base}'s is taken for it")
            home = models[base]
        digest = tokenizer_digest(home)
        if digest not in read:
            read[digest] = read_tokenizer(home)
        files[model] = replace(read[digest], directory=home)
    return files, notes


def _own_rows(
    table: TokenTable,
    files: Mapping[ModelRef, TokenizerFile],
    embedding_rows: Mapping[ModelRef, int],
    rows: int,
    *,
    spare: bool,
) -> Rows:
    """(M, V): each model's own row for each row of the result, or -1.

    With ``spare``, rows that have no token, neither in the result nor in the model, are its own, too.
    """
    own = np.full((len(files), rows), -1, dtype=np.int64)
    places = _places(table)
    for mine, (model, file) in zip(own, files.items(), strict=True):
        size = embedding_rows[model]
        if spare:
            free = np.ones(rows, dtype=bool)
            free[size:] = False
            free[places] = False
            taken = np.fromiter(file.ids.values(), np.int64, len(file.ids))
            free[taken[taken < rows]] = False
            mine[free] = np.flatnonzero(free)
        found = np.fromiter(map(file.ids.get, table.ids, repeat(-1)), np.int64, len(places))
        mine[places] = np.where(found < size, found, -1)
    return own


def _chosen(
    token: str,
    source: TokenSource | None,
    files: Mapping[ModelRef, TokenizerFile],
    embedding_rows: Mapping[ModelRef, int],
) -> tuple[int, int]:
    """Place of the model and its row that the recipe wants for a token."""
    where = f"tokenizer.tokens[{token!r}].source"
    if source is None or isinstance(source, Zero):
        return ZERO, -1
    model = source.model if isinstance(source, ModelToken) else source
    _check_model(where, model, files)
    ids, size = files[model].ids, embedding_rows[model]
    row = source.token_id if isinstance(source, ModelToken) else None
    if row is None:
        text = str(source.token) if isinstance(source, ModelToken) else token
        row = ids.get(text)
        if row is None:
            close = difflib.get_close_matches(text, list(files[model].added), n=1)
            raise RecipeError(
                f"{where}: {model} has no token {text!r}",
                fix=f"did you mean {close[0]!r}?" if close else "name one that it has, or {kind: zero}",
            )
    if row >= size:
        raise RecipeError(
            f"{where}: {model} has no row {row}: its embeddings have {size}", fix="name a token below that"
        )
    return list(files).index(model), row


def _renumbering(file: TokenizerFile, ids: Mapping[str, int], size: int, *, is_donor: bool) -> Rows:
    """The result's id for each id of a model, whose embeddings have ``size`` rows; -1 for none."""
    old = np.fromiter(file.ids.values(), np.int64, len(file.ids))
    renumbering = np.full(max(size, 1 + old.max(initial=-1)), -1, dtype=np.int64)
    if is_donor:  # what has no token stays where it is
        renumbering[:size] = np.arange(size)
    renumbering[old] = np.fromiter(map(ids.get, file.ids, repeat(-1)), np.int64, len(old))
    return renumbering


def _definition(donor: ModelRef, files: Mapping[ModelRef, TokenizerFile], table: TokenTable) -> str | None:
    if table.ids == files[donor].ids:
        return None
    scores, merges = union_scores(donor, files, table), union_merges(donor, files, table)
    return revised(files[donor], table.ids, table.added, scores, merges)


def _notes_on_pieces(
    donor: ModelRef, files: Mapping[ModelRef, TokenizerFile], table: TokenTable
) -> list[str]:
    """Tokens that get rows and that hardly any text becomes."""
    kind, counts = files[donor].kind, Counter(table.pieces.values())
    return [
        f"{model}: {count} of its tokens get rows, but hardly any text becomes them: its tokenizer is "
        f"{files[model].kind}, the result's is {kind}"
        for model, count in counts.items()
        if files[model].kind != kind
    ]


def _orphans(table: TokenTable, own: Rows, chosen: Mapping[int, tuple[int, int]]) -> list[str]:
    owned = own.max(axis=0) >= 0
    owned[list(chosen)] = True
    nobody = [text for text, has in zip(table.ids, owned[_places(table)].tolist(), strict=True) if not has]
    return [f"in no model, so its row is zeros: {quoted(nobody)}"] if nobody else []


def _places(table: TokenTable) -> Rows:
    """Row of each token, in the table's order."""
    return np.fromiter(table.ids.values(), np.int64, len(table.ids))
