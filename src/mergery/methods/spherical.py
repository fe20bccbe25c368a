"""Interpolation along great circles, and means on the sphere.

The result is a linear combination of the models whose coefficients depend only on their inner products,
so one pass over the tensors for the Gram matrix and one for the sum suffice. Coefficients are float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import numpy as np
from numpy.typing import NDArray

from mergery.errors import RecipeError
from mergery.methods.api import Interval, PerModel, Real, each, merge_method
from mergery.stack import Merged, Stack, Weights

if TYPE_CHECKING:
    from torch import Tensor

    from mergery.stack import Chunk

__all__ = ["cosines", "karcher", "multislerp", "nuslerp", "slerp"]

Float64 = NDArray[np.float64]
Path = Annotated[float, Interval(-math.inf, math.inf, (0.0, 1.0))]
Iterations = Annotated[int, Interval(0, 1000, (5, 50))]
Tolerance = Annotated[float, Interval(0.0, 1.0, (1e-8, 1e-4))]

_NEARLY_PARALLEL = 0.9995
_SMALLEST_SINE = 1e-4
_SHORTEST_MEAN = 1e-6  # of unit vectors: inner products in float64 leave 1e-8, sums in float32 magnify it
_MOST_COLUMNS = 1 << 20


@merge_method("slerp", paper="Shoemake 1985, doi:10.1145/325165.325242", base="first", models=(2, 2))
def slerp(weights: Weights, *, t: Path) -> Merged:
    """Interpolate between the base and one other model along the great circle (SLERP).

    ``sin((1-t) w)/sin(w) theta_0 + sin(t w)/sin(w) theta_1``, where w is the angle between the two
    tensors as vectors. Departs from Shoemake, as the tools in use do: the vectors are not normalised,
    only the angle is measured between their directions, and nearly parallel ones
    (``|cos w| > 0.9995``) are interpolated linearly. A zero tensor is at a right angle to all others.
    Departs from mergekit: so are tensors of norm below 1e-8 there.

    Args:
        weights: two models, the base first.
        t: 0 gives the base, 1 the other model; beyond them the great circle goes on.
    """
    cosine = cosines(weights.gram)[0, 1]
    share, other = _great_circle(cosine, t, linear=np.abs(cosine) > _NEARLY_PARALLEL)
    return weights.weighted_sum((float(share), float(other)))


@merge_method("nuslerp", paper="mergekit", models=(2, 2))
def nuslerp(
    models: Stack,
    *,
    weight: PerModel[Real] = each(1.0),
    nuslerp_flatten: bool = True,
    nuslerp_row_wise: bool = False,
) -> Merged:
    """Interpolate two models, or their differences from a base, along the great circle (NuSLERP).

    ``sin((1-t) w)/sin(w) x_1 + sin(t w)/sin(w) x_2`` with ``t = w_2 / (w_1 + w_2)``, one half where the
    weights sum to zero; x are differences where the recipe has a base. The angle w is that of the whole
    tensor, or of each row or column, as SLERP measures it; (nearly) collinear vectors, sin(w) below 1e-4,
    are interpolated linearly. Departs from mergekit: below 1e-8, which float32 never shows, so that
    opposite vectors explode there; and norms below 1e-7 count as that.

    Args:
        models: two models.
        weight: w_1 and w_2.
        nuslerp_flatten: one angle for the whole tensor.
        nuslerp_row_wise: without ``nuslerp_flatten``: false gives each row of the tensor (along its
            last axis) an angle of its own, true each column (along its first axis). The name says the
            opposite of what happens; that is how mergekit reads it.

    Raises:
        RecipeError: for more than a million columns.
    """
    total = sum(weight)
    t = weight[1] / total if abs(total) >= 1e-6 else 0.5
    if nuslerp_flatten:
        gram, by = models.gram, None
    elif nuslerp_row_wise:
        gram, by = _column_gram(models), "column"
    else:
        gram, by = models.row_gram, "row"
    cosine = cosines(gram)[..., 0, 1]
    linear = np.sqrt(1.0 - cosine * cosine) < _SMALLEST_SINE
    coefficients = _great_circle(cosine, t, linear=linear)
    if by is None:
        return models.weighted_sum((float(coefficients[0]), float(coefficients[1])))
    return models.map(_VectorSum(coefficients, by))


@merge_method("multislerp", paper="https://goddard.blog/posts/multislerp-wow-what-a-cool-idea")
def multislerp(
    models: Stack,
    *,
    weight: PerModel[Real] = each(1.0),
    normalize_weights: bool = True,
    eps: Tolerance = 1e-8,
) -> Merged:
    """Interpolate any number of models on the sphere (Multi-SLERP).

    ``(sum_k w_k |x_k|) m / |m|`` with ``m = sum_k w_k x_k / |x_k|``: the weighted mean direction at the
    weighted mean length. x are differences where the recipe has a base. The published step between,
    which projects the directions on the tangent space at m and averages them there, gives zero by the
    definition of m (``sum_k w_k (u_k - <u_k, m> m / |m|^2) = m - m``) and is left out. Where m vanishes
    (below ``eps``, and below 1e-6 in any case) there is no direction and the models are added linearly.
    Departs from mergekit, which does so for two models and stops for more; and divides by
    ``|x_k| + eps``, so that tensors of such a length lose their direction.

    Args:
        models: the models.
        weight: w_k.
        normalize_weights: divide the weights by their sum.
        eps: length of the mean of unit vectors that counts as none.

    Raises:
        RecipeError: if the weights to normalise by sum to zero.
    """
    if models.count == 1:
        return models.weighted_sum((1.0,))
    shares = _normalized(weight) if normalize_weights else list(weight)
    norms = np.sqrt(models.gram.diagonal()).tolist()
    pulls = [w / norm if norm > 0 else 0.0 for w, norm in zip(shares, norms, strict=True)]
    length = _length(pulls, models.gram)
    if length < max(eps, _SHORTEST_MEAN):
        return models.weighted_sum(shares)
    scale = sum(w * norm for w, norm in zip(shares, norms, strict=True)) / length
    return models.weighted_sum([scale * pull for pull in pulls])


@merge_method("karcher", paper="Karcher 1977, doi:10.1002/cpa.3160300502", base="listed", ignores=("weight",))
def karcher(weights: Weights, *, max_iter: Iterations = 10, tol: Tolerance = 1e-5) -> Merged:
    """Average directions on the sphere, and lengths apart (Karcher mean).

    The direction whose squared angles to those of the models have the smallest sum, found by fixed-point
    steps ``u <- exp_u(mean_k log_u(u_k))`` from the normalised mean, times the mean of the lengths. All
    models count the same: ``weight`` is read and ignored, as in mergekit. A zero tensor has no direction
    and shortens the mean; a model opposite to u exerts no pull; without a mean direction to begin with
    the first model's is taken. Departs from mergekit: there a tensor of norm below ``tol`` counts as
    zero, so that small tensors are lost.

    Args:
        weights: the models, and the base where there is one.
        max_iter: most steps.
        tol: step, in radians, at which to stop; models nearer than this exert no pull.
    """
    norms = np.sqrt(weights.gram.diagonal())
    there = np.flatnonzero(norms > 0)
    coefficients = np.zeros(weights.count)
    if there.size:
        direction = _karcher_mean(cosines(weights.gram)[np.ix_(there, there)], max_iter, tol)
        coefficients[there] = norms.mean() * direction / norms[there]
    return weights.weighted_sum(coefficients.tolist())


def cosines(gram: Float64, smallest: float = 0.0) -> Float64:
    """Cosines of the angles between models, ``(..., K, K)`` for inner products of that shape.

    Args:
        gram: inner products.
        smallest: products of two norms below this are taken to be this.

    Returns:
        Cosines in [-1, 1]; 0 for a zero vector.
    """
    norms = np.sqrt(np.diagonal(gram, axis1=-2, axis2=-1))
    products = np.maximum(norms[..., :, None] * norms[..., None, :], smallest)
    cosine: Float64 = np.divide(gram, products, out=np.zeros_like(gram), where=products > 0)
    return cosine.clip(-1.0, 1.0)


def _great_circle(cosine: Float64, t: float, *, linear: NDArray[np.bool_]) -> Float64:
    """SLERP's two coefficients for each cosine, ``(2, ...)``; those of a straight line where ``linear``."""
    angle = np.arccos(cosine)
    sine = np.where(linear, 1.0, np.sin(angle))
    return np.stack(
        [
            np.where(linear, 1.0 - t, np.sin((1.0 - t) * angle) / sine),
            np.where(linear, t, np.sin(t * angle) / sine),
        ]
    )


def _normalized(weight: Sequence[float]) -> list[float]:
    """Weights that sum to one."""
    total = sum(weight)
    if abs(total) < 1e-8:
        raise RecipeError(
            f"multislerp: the weights to normalise, {', '.join(f'{w:g}' for w in weight)}, sum to zero",
            fix="give weights with another sum, or normalize_weights: false",
        )
    return [w / total for w in weight]


def _length(coefficients: Sequence[float], gram: Float64) -> float:
    """Norm of a combination, added up one by one, so that a coefficient of 0 changes no bit."""
    square = sum(
        a * b * inner
        for a, row in zip(coefficients, gram.tolist(), strict=True)
        for b, inner in zip(coefficients, row, strict=True)
    )
    return math.sqrt(max(square, 0.0))


def _karcher_mean(cosine: Float64, max_iter: int, tol: float) -> Float64:
    """Coefficients over unit vectors ``(V,)`` of their mean on the sphere, from their cosines ``(V, V)``."""
    point = np.full(len(cosine), 1.0 / len(cosine))
    length = _length(point.tolist(), cosine)
    point = point / length if length >= max(tol, _SHORTEST_MEAN) else np.eye(len(cosine))[0]
    for _ in range(max_iter):
        towards = np.clip(cosine @ point, -1.0, 1.0)
        angle = np.arccos(towards)
        sine = np.sin(angle)
        pulls = (angle >= tol) & (sine > _SHORTEST_MEAN)
        share = np.divide(angle, sine, out=np.zeros_like(angle), where=pulls) / len(cosine)
        step = share - (share @ towards) * point
        length = _length(step.tolist(), cosine)
        if length < max(tol, _SHORTEST_MEAN):
            break
        point = math.cos(length) * point + math.sin(length) / length * step
        point = point / _length(point.tolist(), cosine)
    return point


def _column_gram(models: Stack) -> Float64:
    """Inner products between models column by column (along the first axis), ``(columns, K, K)``."""
    columns = models.elements // models.shape[0] if models.shape and models.elements else 1
    if columns > _MOST_COLUMNS:
        raise RecipeError(
            f"{models.place.name}: nuslerp_row_wise takes at most {_MOST_COLUMNS} columns, got {columns}",
            fix=f"give it as a list of filters, with false for {models.place.name}",
        )
    return np.moveaxis(models.total(_ColumnProducts(columns)), -1, 0)


@dataclass(frozen=True)
class _ColumnProducts:
    """Inner products of a chunk's piece of each column, ``(K, K, columns)``.

    Attributes:
        columns: number of columns; element i is in column ``i % columns``.
    """

    columns: int

    def __call__(self, chunk: Chunk) -> Tensor:
        lead, size = chunk.first % self.columns, chunk.values.shape[1]
        whole = chunk.values.double().new_zeros(chunk.count, -(-(lead + size) // self.columns) * self.columns)
        whole[:, lead : lead + size] = chunk.values
        lines = whole.view(chunk.count, -1, self.columns)
        return (lines.unsqueeze(0) * lines.unsqueeze(1)).sum(2)


@dataclass(frozen=True, eq=False)
class _VectorSum:
    """The weighted sum of models, with weights of its own for each row or column.

    Attributes:
        coefficients: ``(K, V)``, for V rows or columns.
        by: what the V vectors are: ``row`` or ``column``.
    """

    coefficients: Float64
    by: str

    def __call__(self, chunk: Chunk) -> Tensor:
        elements = np.arange(chunk.first, chunk.first + chunk.values.shape[1])
        vector = elements // chunk.row if self.by == "row" else elements % self.coefficients.shape[1]
        return (chunk.values.new_tensor(self.coefficients[:, vector]) * chunk.values).sum(0)
