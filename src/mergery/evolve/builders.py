"""Live models of candidates: merged in memory, or loaded from a directory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mergery.checkpoint import Checkpoint, ModelRef
from mergery.engine.live import LiveMerge
from mergery.engine.stock import load_stock
from mergery.evolve.space import Candidate
from mergery.recipe import Recipe

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

__all__ = ["MergeBuilder", "StoredBuilder", "stored"]


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

    def build(self, candidate: Candidate) -> PreTrainedModel:
        """Fill the live model with a candidate's merge."""
        return self.live.build(candidate.recipe)


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


def stored(model: ModelRef) -> Candidate:
    """A model as it is, as a candidate."""
    return Candidate(Recipe.from_dict({"merge_method": "passthrough", "models": [{"model": str(model)}]}))
