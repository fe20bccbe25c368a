"""A path through the layers of several models: which layer runs when, and how much it adds.

Path space is the data flow space (DFS) of Akiba et al. (arXiv:2403.13187): weights stay as they are, and what
is searched is the order in which layers run, with a factor on the residual stream between them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mergery.errors import RecipeError

__all__ = ["Hop", "Path"]


@dataclass(frozen=True)
class Hop:
    """One layer on the way.

    Attributes:
        model: the number of the model that it comes from; 0 is the donor, which gives embeddings, final norm
            and head.
        layer: its number in that model.
        gain: factor on what its sublayers add to the residual stream.
    """

    model: int
    layer: int
    gain: float = 1.0

    def __post_init__(self) -> None:
        if self.model < 0 or self.layer < 0:
            raise RecipeError(
                f"hop to layer {self.layer} of model {self.model}: layers and models are counted from 0",
                fix="use numbers from 0 on",
            )
        if not math.isfinite(self.gain):
            raise RecipeError(
                f"hop to layer {self.layer} of model {self.model}: its gain is {self.gain}",
                fix="use a finite gain; scales whose product leaves the range of numbers give none",
            )


@dataclass(frozen=True)
class Path:
    """Layers in the order in which they run.

    Attributes:
        hops: from the bottom up, at least one.
    """

    hops: tuple[Hop, ...]

    def __post_init__(self) -> None:
        if not self.hops:
            raise RecipeError("a path without layers", fix="let at least one layer run")

    @classmethod
    def plain(cls, depth: int, model: int = 0) -> Path:
        """One model's layers as they stand."""
        return cls(tuple(Hop(model, layer) for layer in range(depth)))

    @classmethod
    def from_scales(cls, visits: Sequence[tuple[int, int]], scales: Sequence[float]) -> Path:
        """The path whose residual stream is multiplied before every hop, as in the paper.

        The paper's stream (Akiba et al., section on the data flow space) is ``h <- s_t h``, then
        ``h <- h + f_t(h)``. A block that normalises what it reads gives the same for h and for c h, c > 0. So
        with ``h = c_t u``, ``c_t = s_1 ... s_t``, the stream u obeys ``u <- u + f_t(u) / c_t``: there are no
        factors between layers, only the gain ``1 / c_t`` of each hop, and the final norm takes the last c
        away. The norms' eps, which does not scale, makes the only difference.

        Args:
            visits: ``(model, layer)`` of each hop.
            scales: s_t, positive; the first multiplies what the embedding gives.

        Raises:
            RecipeError: if a scale is not positive (the sign of the stream would turn in every norm), or
                their product leaves the range of numbers.
        """
        if len(visits) != len(scales):
            raise RecipeError(
                f"{len(scales)} scales for {len(visits)} hops", fix="give one scale for each hop"
            )
        hops, product = [], 1.0
        for number, ((model, layer), scale) in enumerate(zip(visits, scales, strict=True)):
            if not (scale > 0.0 and math.isfinite(scale)):
                raise RecipeError(
                    f"scale {number} is {scale}: only positive factors pass through the norms",
                    fix="use finite scales above 0",
                )
            product *= scale
            hops.append(Hop(model, layer, 1.0 / product if product else math.inf))
        return cls(tuple(hops))

    def __len__(self) -> int:
        return len(self.hops)
