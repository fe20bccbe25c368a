"""Losses as a Gaussian process likes them: the good ones to scale, the terrible ones drawn in."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mergery.evolve.algorithms.gaussian.spread import spread

__all__ = ["Warp"]

Array = NDArray[np.float64]

_TYPICAL = 24
_SHARE = 0.4


@dataclass(frozen=True)
class Warp:
    """A growing, smooth map of losses: linear below a knee, logarithmic above it.

    Merges fall off cliffs: most recipes of a wide cube answer nothing, and on the scale of that fall the
    differences between good recipes vanish. So a unit is what good losses differ by (root mean square below
    the knee), and t units above the knee become ln(1 + t).

    Attributes:
        knee: loss at which it bends; 0 after the warp.
        unit: losses that become 1 below the knee.
        failed: what an infinite loss becomes.
    """

    knee: float
    unit: float
    failed: float

    @classmethod
    def of(cls, points: Array, losses: Array, *, least: float = -np.inf) -> Warp:
        """The warp that suits these losses.

        What is good is told from two dozen points that lie far apart: a search gathers where it has found
        something, and by all of its points its own gathering place would soon be the whole scale.

        Args:
            points: ``(n, d)`` where the losses are.
            losses: ``(n,)``; some of them may be infinite.
            least: the knee is not below this loss.
        """
        finite = np.isfinite(losses)
        if not finite.any():
            return cls(0.0, 1.0, 1.0)
        typical = losses[finite][spread(points[finite], _TYPICAL)]
        knee = max(float(np.quantile(typical, _SHARE)), least)
        good = typical[typical <= knee]
        # if all of those are equal, the rest is all there is to tell a scale by
        unit = float(np.sqrt(np.mean((good - knee) ** 2))) or float(np.std(losses[finite])) or 1.0
        worst = cls(knee, unit, 0.0)(np.array([losses[finite].max()]))
        return cls(knee, unit, max(1.0, float(worst[0])))

    def __call__(self, losses: Array) -> Array:
        """Warped losses; infinite ones as :attr:`failed`."""
        ratio = self._ratio(losses)
        warped = np.where(ratio > 0, np.log1p(np.maximum(ratio, 0)), ratio)
        return np.where(np.isfinite(losses), warped, self.failed)

    def slope(self, losses: Array) -> Array:
        """Derivative of the warp at finite losses; 0 at infinite ones."""
        slope = 1 / (self.unit * (1 + np.maximum(self._ratio(losses), 0)))
        return np.where(np.isfinite(losses), slope, 0.0)

    def inverse(self, warped: Array) -> Array:
        """The loss that a warped value stands for."""
        return self.knee + self.unit * np.where(warped > 0, np.expm1(np.maximum(warped, 0)), warped)

    def _ratio(self, losses: Array) -> Array:
        """Units above the knee; 0 for infinite losses."""
        return (np.where(np.isfinite(losses), losses, self.knee) - self.knee) / self.unit
