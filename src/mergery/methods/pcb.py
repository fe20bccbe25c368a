"""Entries that compete within their model and between models (PCB-Merging)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from mergery.methods.api import Interval, PerModel, Real, each, merge_method
from mergery.methods.voting import summed
from mergery.stack import Chunk, Merged, TaskVectors

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["pcb"]

Ratio = Annotated[float, Interval(0.0, 1.0, (0.05, 0.2))]

_TAIL = 1e-4
_SMALLEST_SUM = 1e-12


@merge_method("pcb", paper="arXiv:2410.02396")
def pcb(task_vectors: TaskVectors, *, pcb_ratio: Ratio = 0.1, lambda_: PerModel[Real] = each(1.0)) -> Merged:
    """Let entries compete within and between models, and average the winners (PCB-Merging).

    All counts and extremes are over the whole model, n entries of K models (Du et al., section 3; as in the
    authors' code):

    1. ``a_i``: ``|tau_i|``, cut off below its 1e-4 and above its 1 - 1e-4 quantile.
    2. Within: ``exp(K minmax(a_i)^2)``; between: ``tanh(tau_i sum_j tau_j)``; their product is ``beta_i``.
    3. ``s_i``: of ``beta_i`` what is above its ``int((1 - pcb_ratio) n)``-th smallest value, scaled so that
       the largest is 1. Entries that work against the sum (``beta_i`` below 0) never count.
    4. ``theta = theta_base + sum_i lambda_i s_i sign(tau_i) a_i / sum_i s_i``.

    Departs from the authors' code: with a ratio so large that the value in step 3 is negative, the value is
    0. The paper tunes each lambda in [0.8, 1.3] by an evolution strategy.

    Args:
        task_vectors: the models.
        pcb_ratio: share of the entries that wins in each model; the paper's are 0.05 to 0.2.
        lambda_: scale of each model's part.
    """
    within = task_vectors.model
    n, models = within.elements, range(task_vectors.count)
    low = int(n * _TAIL)
    ends = within.kth_values(_sizes, [(low, max(low, int(n * (1 - _TAIL) - 1))) for _ in models])
    competition = _Competition(tuple(end[0] for end in ends), tuple(end[1] for end in ends))
    last = min(int(n * (1 - pcb_ratio)), n - 1)
    bounds = within.kth_values(competition, [(last, n - 1) for _ in models])
    losing, best = tuple(bound[0] for bound in bounds), tuple(bound[1] for bound in bounds)
    return task_vectors.map(_Balanced(competition, losing, best, lambda_))


@dataclass(frozen=True)
class _Competition:
    """How each entry does within its model and between models, ``(K, m)``, 0 where it is against the sum.

    Attributes:
        smallest: smallest magnitude of each model, after the cut.
        largest: largest.
    """

    smallest: tuple[float, ...]
    largest: tuple[float, ...]

    def __call__(self, chunk: Chunk) -> Tensor:
        smallest, span = chunk.column(self.smallest), chunk.column(_spans(self.smallest, self.largest))
        within = ((self.cut(chunk) - smallest) / span).square()
        between = (chunk.values * summed(chunk.values)).clamp(min=0).tanh()
        # exp(K) is the same factor for all of a model's entries, and too large for float32 with many models
        return (chunk.count * (within - 1.0)).exp() * between

    def cut(self, chunk: Chunk) -> Tensor:
        """Magnitudes without their extremes, ``(K, m)``."""
        return chunk.values.abs().clamp(min=chunk.column(self.smallest), max=chunk.column(self.largest))


@dataclass(frozen=True)
class _Balanced:
    """The mean of the models, weighted by how much each entry wins by."""

    competition: _Competition
    losing: tuple[float, ...]
    best: tuple[float, ...]
    factor: tuple[float, ...]

    def __call__(self, chunk: Chunk) -> Tensor:
        losing = chunk.column(self.losing)
        ahead = (self.competition(chunk) - losing).clamp(min=0)
        share = ahead / chunk.column(_spans(self.losing, self.best))
        values = chunk.values.sign() * self.competition.cut(chunk) * chunk.column(self.factor)
        return summed(values * share) / summed(share).clamp(min=_SMALLEST_SUM)


def _spans(low: tuple[float, ...], high: tuple[float, ...]) -> tuple[float, ...]:
    """Lengths of intervals, 1 for those of no length."""
    return tuple(b - a if b > a else 1.0 for a, b in zip(low, high, strict=True))


def _sizes(chunk: Chunk) -> Tensor:
    """Magnitudes, ``(K, m)``."""
    return chunk.values.abs()
