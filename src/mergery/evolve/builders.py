"""Live models of candidates: merged in memory, or loaded from a directory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mergery.checkpoint import Checkpoint, ModelRef
from mergery.engine.live import LiveMerge
from mergery.engine.stock import load_stock
from mergery.evolve.candidate import Candidate
from mergery.evolve.paths.runtime import LivePaths
from mergery.recipe import Recipe

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["MergeBuilder", "PathBuilder", "StoredBuilder"]


class MergeBuilder:
    """Merges candidates in one live model; nothing is written.

    Args:
        recipe: any recipe of the models to be merged.
        device: where the tensors and the model live.

    Attributes:
        live: where candidates are merged.
    """

    def __init__(self, recipe: Recipe, *, device: str = "cpu") -> None:
        self.live = LiveMerge(recipe, device=device)

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Of the directory that the result's tokenizer comes from."""
        return self.live.tokenizer

    @property
    def model(self) -> PreTrainedModel:
        """The live model, whatever it holds."""
        return self.live.model

    def build(self, candidate: Candidate) -> PreTrainedModel:
        """Fill the live model with a candidate's merge."""
        return self.live.build(candidate.recipe)


class PathBuilder:
    """Strings the layers of several models together; their weights are in memory once.

    Args:
        models: whose layers; the first is the donor.
        device: where they live.
    """

    def __init__(self, models: Sequence[ModelRef | Recipe], *, device: str = "cpu") -> None:
        self.live = LivePaths(models, device=device)

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The donor's."""
        return self.live.tokenizer

    @property
    def model(self) -> PreTrainedModel:
        """The donor."""
        return self.live.donor

    def build(self, candidate: Candidate) -> PreTrainedModel:
        """A model of a candidate's path, through the donor that it brings along, if it does."""
        assert candidate.path is not None
        if candidate.donor is not None:
            self.live.refill(candidate.donor)
        return self.live.build(candidate.path)


class StoredBuilder:
    """Loads one model directory as any user of transformers does.

    Args:
        model: the directory, or a model's id.
        device: where it shall live.
    """

    def __init__(self, model: ModelRef, *, device: str = "cpu") -> None:
        self._model, self._tokenizer = load_stock(Checkpoint.open(model).directory, device)

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Of the directory."""
        return self._tokenizer

    def build(self, candidate: Candidate) -> PreTrainedModel:  # noqa: ARG002
        """The model, as it was loaded."""
        return self._model
