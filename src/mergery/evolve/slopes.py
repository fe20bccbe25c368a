"""The gradient of a loss with respect to a recipe's knobs: one backward pass, and a merge for each knob.

A knob moves tensors, and the backward pass says how the loss moves with each tensor:
``dL/dk = sum_t <dL/dW_t, dW_t/dk>``. The second factor is the difference of two merges, so this holds for
every method, not only for those that are linear in their parameters. A knob's groups share no tensor, so one
merge gives the derivatives of all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from mergery.checkpoint.safetensors import TensorInfo
from mergery.engine.live import LiveMerge
from mergery.engine.sink import Evidence
from mergery.evolve.algorithms.api import Point
from mergery.evolve.knobs import Knob
from mergery.evolve.space import Genome, SearchSpace
from mergery.stack.rows import Bits

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["Slopes"]

_STEP = 0.01
"""Of a knob's range. Methods that are linear in the knob do not mind how long it is; for the others it is a
secant over a hundredth of what is searched."""


class Slopes:
    """Differentiates losses of one space's candidates.

    Args:
        live: whose model the losses are of.
        space: whose knobs they are differentiated by.
    """

    def __init__(self, live: LiveMerge, space: SearchSpace) -> None:
        self._live, self._space = live, space
        self._parameters = dict(live.model.named_parameters(remove_duplicate=False))

    def at(self, genome: Genome, backward: Callable[[PreTrainedModel], float]) -> tuple[float, Point]:
        """A loss and its gradient at one genome.

        Args:
            genome: where.
            backward: adds the loss's gradient to the ``grad`` of a model's parameters, and returns the loss.

        Returns:
            The loss, and its derivative by each coordinate of the unit cube; 0 for a choice.

        Raises:
            RecipeError: if the candidate or a neighbour of it cannot be merged.
        """
        model = self._live.build(self._space.recipe(genome))
        model.requires_grad_(True)
        try:
            loss = backward(model)
            merged = _Kept()
            self._run(genome, merged)
            return loss, tuple(self._derivatives(genome, merged.tensors))
        finally:
            model.requires_grad_(False)
            model.zero_grad(set_to_none=True)

    def _derivatives(self, genome: Genome, merged: dict[str, Tensor]) -> Iterator[float]:
        first = len(genome) - sum(len(knob.names) for knob in self._space.knobs)
        yield from [0.0] * first
        for knob, span in self._space.active(genome):
            values = [float(value) for value in genome[first : first + len(knob.names)]]
            if span is None:
                yield from [0.0] * len(values)
            else:
                step = _STEP * (span.high - span.low)
                signs = [1.0 if value + step <= span.high else -1.0 for value in values]
                moved = [value + sign * step for value, sign in zip(values, signs, strict=True)]
                products = self._products(
                    knob, (*genome[:first], *moved, *genome[first + len(moved) :]), merged
                )
                yield from (sign * product / _STEP for sign, product in zip(signs, products, strict=True))
            first += len(values)

    def _products(self, knob: Knob, moved: Genome, merged: dict[str, Tensor]) -> list[float]:
        """``<dL/dW_t, W_t(moved) - W_t>``, summed over the tensors of each of a knob's groups."""
        sums = [0.0] * len(knob.names)
        dots = _Dots(merged, self._parameters)
        self._run(moved, dots)
        for name, product in dots.products.items():
            group = next((number for pattern, number in knob.filters if pattern in name), 0)
            sums[group] += product
        return sums

    def _run(self, genome: Genome, sink: _Kept | _Dots) -> None:
        # in float32: what the written type rounds away would drown the difference
        self._live.run(replace(self._space.recipe(genome), out_dtype="float32"), sink)


class _Kept:
    """A sink that keeps every tensor, flat, in float32."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}

    def open(self, info: TensorInfo) -> _Piecewise:
        pieces: list[Tensor] = []
        return _Piecewise(pieces.append, lambda: self.tensors.__setitem__(info.name, torch.cat(pieces)))


class _Dots:
    """A sink that multiplies each tensor's difference from a kept one with its gradient, and sums that."""

    def __init__(self, merged: dict[str, Tensor], parameters: dict[str, torch.nn.Parameter]) -> None:
        self._merged, self._parameters = merged, parameters
        self.products: dict[str, float] = {}

    def open(self, info: TensorInfo) -> _Piecewise:
        parameter = self._parameters.get(info.name)
        gradient = None if parameter is None or parameter.grad is None else parameter.grad.flatten()
        before, place = self._merged[info.name], 0

        def multiply(piece: Tensor) -> None:
            nonlocal place
            if gradient is not None:
                here = slice(place, place + len(piece))
                difference = (piece - before[here]).to(gradient.device)
                product = float(torch.dot(difference, gradient[here].float()))
                self.products[info.name] = self.products.get(info.name, 0.0) + product
            place += len(piece)

        return _Piecewise(multiply, lambda: None)


class _Piecewise:
    """Hands a tensor's pieces, as they come, to a function."""

    def __init__(self, take: Callable[[Tensor], None], end: Callable[[], None]) -> None:
        self._take, self._end = take, end

    def write(self, start: int, piece: Bits) -> None:  # noqa: ARG002 - they come in order
        self._take(torch.from_numpy(piece).view(torch.float32).flatten().clone())

    def close(self, evidence: Evidence) -> None:  # noqa: ARG002 - the protocol's
        self._end()
