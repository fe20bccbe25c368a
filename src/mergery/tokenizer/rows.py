"""For every model, which rows of which embeddings stand in the result's rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["AVERAGE", "MIXED", "ZERO", "RowMap", "Rows", "row_maps"]

Rows: TypeAlias = NDArray[np.int64]

ZERO = -1
MIXED = -2
AVERAGE = -3


@dataclass(frozen=True, eq=False)
class RowMap:
    """How one model's embeddings (or output head) go into the result's rows.

    Row i is row ``row[i]`` of model ``donor[i]``, unless ``donor[i]`` is one of

    - ``ZERO``: zeros;
    - ``MIXED``: the mean of the rows in ``mixed[i]``, pairs of model and row;
    - ``AVERAGE``: the mean of all the other rows of this very map.

    Attributes:
        donor: (V,) int64, place of a model in ``Vocabulary.models``, or one of the three.
        row: (V,) int64, -1 where no single row is taken.
        mixed: for the rows that are means of several.
        identity: whether the result's rows are the model's own, all of them in their order.
    """

    donor: Rows
    row: Rows
    mixed: Mapping[int, tuple[tuple[int, int], ...]]
    identity: bool


def row_maps(
    own: Rows,
    tokens: Rows,
    *,
    base: int | None,
    chosen: Mapping[int, tuple[int, int]],
    forced: Sequence[int],
    embedding_rows: Sequence[int],
) -> list[RowMap]:
    """The map of each model.

    A model's own row comes first, unless its token is forced. Else it is the one chosen for the token;
    else that of the only model that has it; else the base's; else the mean over the models that have it;
    else zeros. Rows without a token are the model's own where it has one to spare there, and the mean of
    its other rows where not.

    Args:
        own: (M, V), each model's row for each row of the result; -1 where it has none.
        tokens: rows of the result that have a token.
        base: place of the base among the models, if there is one.
        chosen: for some tokens' rows, model and row (or ``ZERO`` and -1).
        forced: rows whose chosen source counts for the models that have the token, too.
        embedding_rows: (M,), sizes of the models' embeddings.
    """
    models, count = own.shape
    has_token = np.zeros(count, dtype=bool)
    has_token[tokens] = True
    donor, row = _defaults(own, base)
    donor[~has_token], row[~has_token] = AVERAGE, -1
    for place, (model, chosen_row) in chosen.items():
        donor[place], row[place] = model, chosen_row
    keeps = own >= 0
    keeps[:, list(forced)] = False
    means = _owners(own, np.flatnonzero(donor == MIXED))
    return [
        _row_map(model, np.where(keep, model, donor), np.where(keep, own[model], row), means, size)
        for model, keep, size in zip(range(models), keeps, embedding_rows, strict=True)
    ]


def _defaults(own: Rows, base: int | None) -> tuple[Rows, Rows]:
    """What a model without the token takes, if the recipe says nothing."""
    owners = (own >= 0).sum(axis=0)
    donor = np.where(owners == 0, ZERO, MIXED).astype(np.int64)
    single = owners == 1
    donor[single] = (own[:, single] >= 0).argmax(axis=0)
    if base is not None:
        donor[own[base] >= 0] = base
    row = np.take_along_axis(own, np.maximum(donor, 0)[None], axis=0)[0]
    return donor, np.where(donor >= 0, row, -1)


def _owners(own: Rows, places: Rows) -> dict[int, tuple[tuple[int, int], ...]]:
    """All models that have the tokens of these rows, and where."""
    columns = own[:, places].T.tolist()
    return {
        place: tuple((model, row) for model, row in enumerate(column) if row >= 0)
        for place, column in zip(places.tolist(), columns, strict=True)
    }


def _row_map(
    model: int, donor: Rows, row: Rows, means: Mapping[int, tuple[tuple[int, int], ...]], size: int
) -> RowMap:
    identity = len(row) == size and bool((donor == model).all() and (row == np.arange(size)).all())
    donor.flags.writeable = row.flags.writeable = False
    return RowMap(
        donor, row, {place: means[place] for place in np.flatnonzero(donor == MIXED).tolist()}, identity
    )
