"""How a point of the unit cube enters a kernel: real knobs, ordered choices, unordered choices."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["Features"]

Array = NDArray[np.float64]


class Features:
    """Numbers whose squared differences, each over a squared lengthscale, are the kernel's distance.

    A real dimension is itself. A dimension of k values is the value's place, 0 to 1, so that neighbours are
    alike; with k ≥ 3 it is beside that k indicators of 1/√2, so that any two values are 1 apart (Hamming).
    Both have a lengthscale each: whether the values have an order is learned.

    Args:
        choices: for every dimension the number of its values, 0 for a real one.

    Attributes:
        choices: ``(d,)`` as given.
        groups: ``(f,)`` index of each feature's lengthscale; the first d features are the dimensions' own.
        scales: how many lengthscales there are.
    """

    def __init__(self, choices: Sequence[int]) -> None:
        self.choices = np.array(choices, dtype=np.int64)
        groups = list(range(len(choices)))
        self._unordered: list[int] = [place for place, count in enumerate(choices) if count > 2]
        for group, place in enumerate(self._unordered, len(choices)):
            groups += [group] * choices[place]
        self.groups = np.array(groups, dtype=np.int64)
        self.scales = len(choices) + len(self._unordered)

    @property
    def real(self) -> NDArray[np.bool_]:
        """``(d,)`` which dimensions are real."""
        return np.asarray(self.choices == 0)

    def cells(self, points: Array) -> Array:
        """``(n, d)`` index of the value of each dimension of choices; what real ones give is without use."""
        return np.minimum(np.maximum(self.choices - 1, 0), np.floor(self.choices * points))

    def snap(self, points: Array) -> Array:
        """``(n, d)`` points, dimensions of choices moved to the middle of their part of the edge."""
        if self.real.all():
            return points
        return np.where(self.real, points, (self.cells(points) + 0.5) / np.maximum(1, self.choices))

    def encode(self, points: Array) -> Array:
        """``(n, f)`` features of ``(n, d)`` points."""
        if self.real.all():
            return points
        cells = self.cells(points)
        parts = [np.where(self.real, points, cells / np.maximum(1, self.choices - 1))]
        for place in self._unordered:
            parts.append((cells[:, [place]] == np.arange(self.choices[place])) * np.sqrt(0.5))
        return np.concatenate(parts, axis=1)
