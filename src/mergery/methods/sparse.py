"""Task vectors without their largest and smallest entries, or with entries dropped at random by rank."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np

from mergery.errors import RecipeError
from mergery.methods.api import Fraction, Interval, PerModel, Real, each, merge_method
from mergery.methods.task_arithmetic import added, elected
from mergery.methods.voting import elected_entries, summed
from mergery.stack import Chunk, Mapped, Merged, Sparse, TaskVectors

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["breadcrumbs", "breadcrumbs_ties", "della", "della_linear"]

Outliers = Annotated[float, Interval(0.0, 1.0, (0.0, 0.02))]
Spread = Annotated[float, Interval(0.0, 0.5, (0.0, 0.2))]

_ROUNDING = 1e-9
_NO_DIVISOR = 1e-8


@merge_method("breadcrumbs", paper="arXiv:2312.06795", ignores=("int8_mask",))
def breadcrumbs(
    task_vectors: TaskVectors,
    *,
    weight: PerModel[Real] = each(1.0),
    density: PerModel[Fraction] = each(1.0),
    gamma: PerModel[Outliers] = each(0.01),
    normalize: bool = False,
    rescale: bool = False,
    lambda_: Real = 1.0,
    scope: Literal["tensor", "row"] = "tensor",
) -> Merged:
    """Drop the largest and the smallest changes, add the rest (Model Breadcrumbs).

    Each model leaves out the ``int(gamma n)`` largest of its n changes, then keeps the ``int(density n)``
    largest of the others (Davari and Belilovsky, section 3). Where that is more than there are, gamma gives
    way: with density 1 nothing is dropped. Changes as large as the smallest or the largest one kept are kept
    too. The rest is ``theta_base + lambda sum_k w_k tau_k``.

    Departs from the paper: it counts within each row (``scope: row``) and takes density 0.15, gamma 0.006
    and lambda 0.2; here, as in mergekit, within each tensor. Departs from mergekit: where ``int(gamma n)``
    is 0 it drops the whole tensor's change.

    Args:
        task_vectors: the models.
        weight: w_k.
        density: share of the entries that each model keeps.
        gamma: share of the entries, the largest, that is left out.
        normalize: divide by the sum of the weights (where it is not zero).
        rescale: scale what is kept to the tensor's sum of magnitudes.
        lambda_: scale of the whole difference.
        scope: where entries are counted: within the tensor, or within each row (its last axis).
    """
    if scope == "row":
        total = sum(weight) if normalize else 1.0
        means = [w / total for w in weight] if abs(total) >= _NO_DIVISOR else weight
        return _row_crumbs(task_vectors, means, density, gamma, rescale, None) * lambda_
    return added(_crumbs(task_vectors, density, gamma, rescale), weight, normalize) * lambda_


@merge_method(
    "breadcrumbs_ties", paper="arXiv:2312.06795", ignores=("int8_mask",), mergekit={"divisor": "signed"}
)
def breadcrumbs_ties(
    task_vectors: TaskVectors,
    *,
    weight: PerModel[Real] = each(1.0),
    density: PerModel[Fraction] = each(1.0),
    gamma: PerModel[Outliers] = each(0.01),
    normalize: bool = False,
    rescale: bool = False,
    lambda_: Real = 1.0,
    scope: Literal["tensor", "row"] = "tensor",
    divisor: Literal["magnitude", "signed"] = "magnitude",
) -> Merged:
    """Drop the largest and the smallest changes, elect a sign for each entry (Model Breadcrumbs with TIES).

    Masks as in ``breadcrumbs``, then the vote of TIES (arXiv:2306.01708, section 4): the sign of
    ``sum_k w_k tau_k``, an exact zero counting as plus, and the weighted sum of the changes that have it.
    Departs from the paper and from mergekit as ``breadcrumbs`` and ``ties`` do.

    Args:
        task_vectors: the models.
        weight: w_k, applied before the vote.
        density: share of the entries that each model keeps.
        gamma: share of the entries, the largest, that is left out.
        normalize: average the contributions instead of adding them.
        rescale: scale what is kept to the tensor's sum of magnitudes.
        lambda_: scale of the whole difference.
        scope: where entries are counted: within the tensor, or within each row (its last axis).
        divisor: average by the weights' magnitudes, or by the weights as they are.
    """
    if scope == "row":
        shares = tuple(abs(w) if divisor == "magnitude" else w for w in weight) if normalize else ()
        return _row_crumbs(task_vectors, weight, density, gamma, rescale, shares) * lambda_
    return elected(_crumbs(task_vectors, density, gamma, rescale), weight, normalize, divisor) * lambda_


@merge_method(
    "della",
    paper="arXiv:2406.11617",
    random=True,
    ignores=("int8_mask",),
    mergekit={"rescaling": "magnitude", "divisor": "signed"},
)
def della(
    task_vectors: TaskVectors,
    *,
    weight: PerModel[Real] = each(1.0),
    density: PerModel[Fraction] = each(1.0),
    epsilon: PerModel[Spread] = each(0.15),
    normalize: bool = True,
    rescale: bool = True,
    lambda_: Real = 1.0,
    rescaling: Literal["probability", "magnitude"] = "probability",
    divisor: Literal["magnitude", "signed"] = "magnitude",
) -> Merged:
    """Drop small changes more often than large ones, rescale the rest, elect a sign for each entry (DELLA).

    1. Drop (MAGPRUNE, Deep et al., section 3.1): within each row, the change of the r-th smallest magnitude
       of n is kept with probability ``density - epsilon + 2 epsilon (r-1)/(n-1)``; equal magnitudes are
       ranked in their order, a row of one entry takes ``density``. What is kept is divided by its
       probability, so that its expectation stays.
    2. Elect and fuse (section 3.2): as in ``ties``, weights applied before the vote.

    Density 1 keeps all and density 0 nothing, whatever epsilon. Rows are the last axis; a vector is one row.
    Departs from mergekit: it rescales to the tensor's sum of magnitudes (``rescaling: magnitude``), which
    shrinks small changes against large ones, and ranks tensors of more than two axes along the second.
    Departs from the paper: epsilon is 0.15 unless it is given, as in mergekit.

    Args:
        task_vectors: the models.
        weight: w_k, applied before the vote.
        density: mean probability of keeping a change.
        epsilon: how far the probability goes below and above it; both ends stay within [0, 1].
        normalize: average the contributions instead of adding them.
        rescale: scale up the changes kept.
        lambda_: scale of the whole difference.
        rescaling: divide by the probability, or restore the tensor's sum of magnitudes.
        divisor: average by the weights' magnitudes, or by the weights as they are.

    Raises:
        RecipeError: if density and epsilon make no probability.
    """
    dropped = _pruned(task_vectors, density, epsilon, rescale, rescaling)
    return elected(dropped, weight, normalize, divisor) * lambda_


@merge_method(
    "della_linear",
    paper="arXiv:2406.11617",
    random=True,
    ignores=("int8_mask",),
    mergekit={"rescaling": "magnitude"},
)
def della_linear(
    task_vectors: TaskVectors,
    *,
    weight: PerModel[Real] = each(1.0),
    density: PerModel[Fraction] = each(1.0),
    epsilon: PerModel[Spread] = each(0.15),
    normalize: bool = False,
    rescale: bool = True,
    lambda_: Real = 1.0,
    rescaling: Literal["probability", "magnitude"] = "probability",
) -> Merged:
    """Drop small changes more often than large ones, rescale the rest, add them (DELLA without the vote).

    The first step of ``della``, with the same departures, then the weighted sum.

    Args:
        task_vectors: the models.
        weight: w_k.
        density: mean probability of keeping a change.
        epsilon: how far the probability goes below and above it; both ends stay within [0, 1].
        normalize: divide by the sum of the weights (where it is not zero).
        rescale: scale up the changes kept.
        lambda_: scale of the whole difference.
        rescaling: divide by the probability, or restore the tensor's sum of magnitudes.

    Raises:
        RecipeError: if density and epsilon make no probability.
    """
    return added(_pruned(task_vectors, density, epsilon, rescale, rescaling), weight, normalize) * lambda_


def _pruned(
    task_vectors: TaskVectors,
    density: Sequence[float],
    epsilon: Sequence[float],
    rescale: bool,
    rescaling: str,
) -> Sparse:
    """MAGPRUNE: drop at random by rank, and rescale on demand."""
    spread = [_spread(share, reach) for share, reach in zip(density, epsilon, strict=True)]
    dropped = task_vectors.dense.drop(density, spread=spread)
    if not rescale:
        return dropped
    return dropped.restored() if rescaling == "magnitude" else dropped.divided_by_probability()


def _spread(density: float, epsilon: float) -> float:
    """How far probabilities reach to both sides of the density; 0 where it leaves no choice."""
    if density in (0.0, 1.0):
        return 0.0
    room = min(density, 1.0 - density)
    if epsilon > room + _ROUNDING:
        raise RecipeError(
            f"density {density:g} with epsilon {epsilon:g}: probabilities from {density - epsilon:g} to "
            f"{density + epsilon:g}",
            fix=f"give epsilon of at most {room:g}, or a density nearer to 0.5",
        )
    return min(epsilon, room)


def _cut(elements: int, density: float, gamma: float) -> tuple[int, int]:
    """How many entries are left out for being largest, and how many are kept after them."""
    kept = int(density * elements)
    return min(int(gamma * elements), elements - kept), kept


def _crumbs(
    task_vectors: TaskVectors, density: Sequence[float], gamma: Sequence[float], rescale: bool
) -> Sparse:
    """The band of each model's magnitudes that its counts within the tensor leave."""
    cuts = [_cut(task_vectors.elements, share, out) for share, out in zip(density, gamma, strict=True)]
    # the smallest and the largest magnitude kept
    ends = task_vectors.kth_magnitudes(
        [(out + kept if kept else 0, out + 1 if out and kept else 0) for out, kept in cuts]
    )
    above = [float(np.nextafter(np.float32(largest), np.float32(math.inf))) for _, largest in ends]
    crumbs = task_vectors.dense.band([smallest for smallest, _ in ends], above)
    return crumbs.restored() if rescale else crumbs


def _row_crumbs(
    task_vectors: TaskVectors,
    weight: Sequence[float],
    density: Sequence[float],
    gamma: Sequence[float],
    rescale: bool,
    shares: tuple[float, ...] | None,
) -> Mapped:
    """The same with counts within each row; ``shares``: vote, and divide by those if there are any."""
    band = _RowBand(tuple(_cut(task_vectors.row, *pair) for pair in zip(density, gamma, strict=True)))
    scale = [1.0] * len(weight)
    if rescale:
        sums = task_vectors.total(_Magnitudes(band), rows=True)
        scale = [float(before / after) if after > 0 else 1.0 for before, after in sums]
    factors = tuple(w * s for w, s in zip(weight, scale, strict=True))
    return task_vectors.map(_RowCrumbs(band, factors, shares), rows=True)


@dataclass(frozen=True)
class _RowBand:
    """Keeps entries by their rank in their row: for each model how many largest to leave out, to keep."""

    cuts: tuple[tuple[int, int], ...]

    def __call__(self, chunk: Chunk) -> Tensor:
        """``(K, m)``: the entries kept, zeros elsewhere."""
        kept = chunk.values.clone()
        for model, (row, (out, count)) in enumerate(zip(chunk.rows, self.cuts, strict=True)):
            if not count:
                kept[model] = 0
                continue
            sizes = row.abs()
            ordered = sizes.sort(dim=1).values
            last = chunk.row - out
            outside = (sizes < ordered[:, last - count, None]) | (sizes > ordered[:, last - 1, None])
            kept[model].masked_fill_(outside.flatten(), 0)
        return kept


@dataclass(frozen=True)
class _Magnitudes:
    """Sums of magnitudes before and after, ``(K, 2)`` float64."""

    band: _RowBand

    def __call__(self, chunk: Chunk) -> Tensor:
        sums = chunk.values.new_zeros((chunk.count, 2)).double()
        sums[:, 0] = chunk.values.abs().double().sum(1)
        sums[:, 1] = self.band(chunk).abs().double().sum(1)
        return sums


@dataclass(frozen=True)
class _RowCrumbs:
    """The weighted sum of what is kept, or with ``shares`` the election; see :func:`elected_entries`."""

    band: _RowBand
    weight: tuple[float, ...]
    shares: tuple[float, ...] | None

    def __call__(self, chunk: Chunk) -> Tensor:
        changes = self.band(chunk) * chunk.column(self.weight)
        if self.shares is None:
            return summed(changes)
        return elected_entries(changes, chunk.column(self.shares) if self.shares else None)
