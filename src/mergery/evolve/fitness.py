"""Scores of recipes, built in memory and asked task items."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mergery.checkpoint import Checkpoint, ModelRef
from mergery.evaluate import Evaluator, Items, Scores, get_evaluator, load_items
from mergery.evaluate.api import context_of
from mergery.recipe import Recipe

if TYPE_CHECKING:
    from mergery.engine.live import LiveMerge

__all__ = ["Fitness", "Scored", "inputs_digest"]

_IDENTITY_FILES = ("config.json", "tokenizer.json", "tokenizer.model", "tokenizer_config.json")


@dataclass(frozen=True, eq=False)
class Scored:
    """One model's scores and what they cost.

    Attributes:
        scores: what it scored.
        build_seconds: merging it in memory, or loading it.
        score_seconds: scoring it.
    """

    scores: Scores
    build_seconds: float
    score_seconds: float


class Fitness:
    """Scores recipes of one family on one set of items, in one live model.

    ::

        fitness = Fitness.open(recipe, "items.jsonl", evaluator="exact_match")
        fitness.score(recipe).scores.value

    Args:
        live: the live model that candidates are built in.
        items: what to ask.
        evaluator: how to score.

    Raises:
        DataError: if the items cannot be asked of this model.
    """

    def __init__(self, live: LiveMerge, items: Items, evaluator: Evaluator) -> None:
        self.evaluator = evaluator
        self.items = items
        self._live = live
        self._scorer = evaluator.prepare(live.tokenizer, items, context=context_of(live.model))

    @classmethod
    def open(
        cls,
        recipe: Recipe,
        items: Items | Path | str,
        *,
        evaluator: str = "exact_match",
        device: str = "cpu",
    ) -> Fitness:
        """Open a recipe's models for scoring it and others like it; keeps no ledger.

        Args:
            recipe: any recipe of the models to be merged.
            items: items, or the path of their JSONL file.
            evaluator: a registered evaluator's name.
            device: where to merge and score.
        """
        from mergery.engine import LiveMerge

        chosen = get_evaluator(evaluator)
        asked = items if isinstance(items, Items) else load_items(items)
        return cls(LiveMerge(recipe, device=device), asked, chosen)

    def score(self, recipe: Recipe) -> Scored:
        """Build one recipe in the live model and score it.

        Raises:
            RecipeError: if the recipe does not fit, or its merge is not finite.
            ArithmeticError: if the method's linear algebra fails.
        """
        from torch.linalg import LinAlgError  # type: ignore[attr-defined]  # torch exports it by assignment

        begin = time.perf_counter()
        try:
            model = self._live.build(recipe)
        except LinAlgError as problem:
            raise ArithmeticError(str(problem)) from problem
        built = time.perf_counter()
        scores = self._scorer.score(model)
        return Scored(scores, built - begin, time.perf_counter() - built)


def inputs_digest(models: Iterable[ModelRef]) -> str:
    """Hash of the models' weights, configurations and tokenizers; reads every file once.

    It follows the files' content, not their paths' names or times.
    """
    total = hashlib.sha256()
    for model in models:
        checkpoint = Checkpoint.open(model)
        extras = [checkpoint.directory / name for name in _IDENTITY_FILES]
        for file in (*checkpoint.files, *(extra for extra in extras if extra.is_file())):
            with file.open("rb") as stream:
                total.update(f"{file.name} {hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
    return total.hexdigest()
