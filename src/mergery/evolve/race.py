"""Racing: a candidate that is clearly worse than the best one is asked no further.

After each rung, its losses are compared with the best candidate's on the same items (Maron and Moore,
Hoeffding races, NIPS 1993, with a paired normal test in place of Hoeffding's bound). What a candidate that
was given up would have scored is estimated from the difference: the best one's mean over all items, plus the
mean difference over those that both were asked. So the estimate does not depend on how easy the first items
are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["RUNGS", "Race"]

RUNGS = (0.1, 0.2, 0.4, 0.7, 1.0)
"""Shares of the items after which a candidate may be given up."""

_Z = 2.0
"""Standard errors by which it has to be worse: about 2 % of the candidates that are as good are given up at
one rung."""


@dataclass(frozen=True, eq=False)
class Race:
    """A race against the best candidate so far.

    Attributes:
        best: ``(n,)`` its losses on all items; ``None`` if there is none yet.
    """

    best: NDArray[np.float32] | None = None

    def hope(self, losses: NDArray[np.float32]) -> bool:
        """Whether a candidate with these losses on the first items may still be better."""
        if self.best is None:
            return True
        worse = losses.astype(np.float64) - self.best[: len(losses)]
        # one more difference of the largest size seen: few or equal differences say little about their spread
        spread = math.sqrt(
            (worse.var() * len(worse) + np.abs(worse).max(initial=0.0) ** 2) / (len(worse) + 1)
        )
        return float(worse.mean()) <= _Z * spread / math.sqrt(len(worse))

    def estimate(self, losses: NDArray[np.float32]) -> float:
        """The mean loss over all items of a candidate that was asked the first of them."""
        mean = float(losses.mean(dtype=np.float64))
        if self.best is None or len(losses) == len(self.best):
            return mean
        return (
            mean
            + float(self.best.mean(dtype=np.float64))
            - float(self.best[: len(losses)].mean(dtype=np.float64))
        )
