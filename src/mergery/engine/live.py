"""Candidates built in memory, one after the other, in one live model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mergery.engine.changes import inner_changes
from mergery.engine.execute import execute
from mergery.engine.inputs import Inputs
from mergery.engine.plan import Plan, make_plan, open_models
from mergery.engine.sink import ModelSink
from mergery.engine.source import DiskSource, MemorySource
from mergery.engine.stock import load_stock
from mergery.recipe import Recipe
from mergery.threads import sensible_threads

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = ["LiveMerge"]


class LiveMerge:
    """A model whose weights become one merge after another; nothing is written to disk.

    Task vectors stay in memory, so a candidate costs one weighted sum. Results are rounded to the type
    that the recipe would be written in, so a candidate scores as its file would; the model itself
    computes in float32.

    Args:
        recipe: any recipe of the models to be merged; it decides which are opened.
        device: where the tensors and the model live.

    Attributes:
        model: the live model, in evaluation mode.
        tokenizer: of the directory that the result's tokenizer comes from.
    """

    def __init__(self, recipe: Recipe, *, device: str = "cpu") -> None:
        self._checkpoints = open_models(recipe)
        plan = self._filling = make_plan(recipe, self._checkpoints)
        self._inputs = Inputs(MemorySource(DiskSource(), device), device=device)
        self.model, self.tokenizer = load_stock(plan.donor.directory, device)
        self._sink = ModelSink(self.model)
        self._sink.check(job.name for job in plan.jobs)
        elements = sum(job.output.elements for job in plan.jobs)
        self._threads = sensible_threads(elements) if device == "cpu" else 1

    def build(self, recipe: Recipe) -> PreTrainedModel:
        """Fill the live model with the merge that ``recipe`` describes.

        Models that were not among those of the first recipe are opened as they come.

        Raises:
            MergeryError: if the recipe does not fit the models, or the merge is not finite; the live
                model then holds a mixture and is filled anew by the next call.
        """
        self._inputs.forget()
        self._filling = self._plan(recipe)
        execute(self._filling, self._inputs, self._sink, threads=self._threads, survival=False)
        return self.model

    def inner_changes(self, others: Sequence[Recipe]) -> Iterator[tuple[str, list[float]]]:
        """``<dL/dW, other merge - W>`` of every tensor W of the live model whose parameter holds a gradient.

        Args:
            others: M recipes of the same models.

        Yields:
            The tensor's name, and M inner products.

        Raises:
            MergeryError: if a recipe does not fit the models.
        """
        parameters = self.model.named_parameters(remove_duplicate=False)
        gradients = {name: parameter.grad for name, parameter in parameters if parameter.grad is not None}
        plans = [self._plan(other) for other in others]
        return inner_changes(self._filling, plans, self._inputs, gradients, threads=self._threads)

    def _plan(self, recipe: Recipe) -> Plan:
        for ref in recipe.models:
            if ref not in self._checkpoints:
                self._checkpoints |= open_models(recipe)
        return make_plan(recipe, self._checkpoints)
