"""Evaluators that look at the gold answer's tokens only: one teacher-forced pass gives what they need."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from mergery.evaluate.api import Direction, Scores
from mergery.evaluate.items import Items

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from mergery.evaluate.teacher_forced import Prepared

__all__ = ["AnswerEvaluator", "AnswerScorer"]


@dataclass(frozen=True)
class AnswerEvaluator:
    """The mean over items of one column of the teacher-forced pass; higher is better.

    Attributes:
        name: the evaluator's, and the column's.
        proportion: whether every outcome is 0 or 1.
        direction: always ``maximize``.
    """

    name: Literal["exact_match", "likelihood"]
    proportion: bool
    direction: Direction = "maximize"

    def prepare(
        self, tokenizer: PreTrainedTokenizerBase, items: Items, *, context: int | None = None
    ) -> AnswerScorer:
        """Tokenise the items and pack them into batches."""
        from mergery.evaluate.teacher_forced import prepare

        return AnswerScorer(self, prepare(tokenizer, items, context=context))

    def summarise(self, outcomes: NDArray[np.float32], hashes: tuple[str, ...]) -> Scores:
        """Mean of the outcomes, in float64."""
        return Scores.mean_of(outcomes, hashes, name=self.name, direction=self.direction)


@dataclass(frozen=True)
class AnswerScorer:
    """Scores models on one set of items."""

    evaluator: AnswerEvaluator
    prepared: Prepared

    def score(self, model: PreTrainedModel) -> Scores:
        """One teacher-forced pass over all items."""
        from mergery.evaluate.teacher_forced import answer_outcomes

        outcomes = answer_outcomes(model, self.prepared)
        column = outcomes.exact_match if self.evaluator.name == "exact_match" else outcomes.likelihood
        scores = self.evaluator.summarise(column, self.prepared.hashes)
        return replace(scores, smooth=outcomes.likelihood)
