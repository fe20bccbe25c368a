"""Averages of the models' own weights."""

from __future__ import annotations

from mergery.errors import RecipeError
from mergery.methods.api import PerModel, Real, each, merge_method
from mergery.stack import Merged, Weights

__all__ = ["linear"]


@merge_method("linear", paper="arXiv:2203.05482")
def linear(weights: Weights, *, weight: PerModel[Real] = each(1.0), normalize: bool = True) -> Merged:
    """Average the weights of models (model soup).

    ``theta = sum_k w_k theta_k``, divided by ``sum_k w_k`` with ``normalize``. Equal weights give the
    uniform soup of Wortsman et al. (section 2). A base is not used; to average it in, list it.

    Args:
        weights: the models.
        weight: w_k.
        normalize: divide by the sum of the weights.

    Raises:
        RecipeError: if the weights to normalise by sum to zero.
    """
    merged = weights.weighted_sum(weight)
    if not normalize:
        return merged
    total = sum(weight)
    if abs(total) < 1e-8:
        raise RecipeError(
            f"linear: the weights {', '.join(f'{w:g}' for w in weight)} sum to zero and are to be normalised",
            fix="give weights with another sum, or normalize: false",
        )
    return merged.divided(total)
