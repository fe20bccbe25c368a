"""The gradient of a loss with respect to a recipe's knobs: one backward pass, and products with the models.

A knob moves tensors, and the backward pass says how the loss moves with each tensor:
``dL/dk = sum_t <dL/dW_t, dW_t/dk>``. The second factor is the difference of two merges, so this holds for
every method; where a merge is a weighted sum, no second one is made (:mod:`mergery.engine.changes`). A
knob's groups share no tensor, so one neighbour gives the derivatives of all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mergery.engine.live import LiveMerge
from mergery.evolve.algorithms.api import Point
from mergery.evolve.knobs import Knob
from mergery.evolve.space import Genome, SearchSpace

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
            return loss, self._derivatives(genome)
        finally:
            model.requires_grad_(False)
            model.zero_grad(set_to_none=True)

    def _derivatives(self, genome: Genome) -> Point:
        neighbours = self._neighbours(genome)
        derivatives = [0.0] * len(genome)
        recipes = [self._space.recipe(neighbour.genome) for neighbour in neighbours]
        for tensor, products in self._live.inner_changes(recipes):
            for neighbour, product in zip(neighbours, products, strict=True):
                group = neighbour.knob.group_of(tensor)
                derivatives[neighbour.first + group] += neighbour.signs[group] * product / _STEP
        return tuple(derivatives)

    def _neighbours(self, genome: Genome) -> list[_Neighbour]:
        found, first = [], len(genome) - sum(len(knob.names) for knob in self._space.knobs)
        for knob, span in self._space.active(genome):
            after = first + len(knob.names)
            if span is not None:
                values = [float(value) for value in genome[first:after]]
                step = _STEP * (span.high - span.low)
                signs = [1.0 if value + step <= span.high else -1.0 for value in values]
                moved = [value + sign * step for value, sign in zip(values, signs, strict=True)]
                found.append(_Neighbour(knob, first, (*genome[:first], *moved, *genome[after:]), signs))
            first = after
        return found


@dataclass(frozen=True)
class _Neighbour:
    """A genome in which one knob has moved by a step in all its groups.

    Attributes:
        knob: that has.
        first: its first group's place in the genome.
        genome: with the knob moved.
        signs: whether it was moved up or down, by group.
    """

    knob: Knob
    first: int
    genome: Genome
    signs: list[float]
