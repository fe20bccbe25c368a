"""Candidates built in memory, one after the other, in one live model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mergery.engine.execute import execute
from mergery.engine.inputs import Inputs
from mergery.engine.plan import make_plan, open_models
from mergery.engine.sink import ModelSink, Sink
from mergery.engine.source import DiskSource, MemorySource
from mergery.engine.stock import load_stock
from mergery.recipe import Recipe

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
        plan = make_plan(recipe, self._checkpoints)
        self._inputs = Inputs(MemorySource(DiskSource(), device), device=device)
        self.model, self.tokenizer = load_stock(plan.donor.directory, device)
        self._sink = ModelSink(self.model)
        self._sink.check(job.name for job in plan.jobs)

    def build(self, recipe: Recipe) -> PreTrainedModel:
        """Fill the live model with the merge that ``recipe`` describes.

        Models that were not among those of the first recipe are opened as they come.

        Raises:
            MergeryError: if the recipe does not fit the models, or the merge is not finite; the live
                model then holds a mixture and is filled anew by the next call.
        """
        self.run(recipe, self._sink)
        return self.model

    def run(self, recipe: Recipe, sink: Sink) -> None:
        """Merge what ``recipe`` describes into any sink, from the task vectors in memory.

        Raises:
            MergeryError: if the recipe does not fit the models, or the merge is not finite.
        """
        for ref in recipe.models:
            if ref not in self._checkpoints:
                self._checkpoints |= open_models(recipe)
        execute(make_plan(recipe, self._checkpoints), self._inputs, sink)
