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

POWER = 0.25
"""Of the whole answer's probability, where a smooth score is wanted. With 1, descents stop where no answer is
nearly right; with 0, the likelihood, they serve answers that stay wrong (:mod:`mergery.evaluate.soft`)."""


@dataclass(frozen=True)
class AnswerEvaluator:
    """The mean over items of one column of the teacher-forced pass; higher is better.

    Attributes:
        name: the evaluator's, and the column's.
        proportion: whether every outcome is 0 or 1.
        direction: always ``maximize``.
        soft: always; its scorers have gradients.
    """

    name: Literal["exact_match", "likelihood"]
    proportion: bool
    direction: Direction = "maximize"
    soft: bool = True

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
        if self.evaluator.name == "likelihood":
            return scores
        lengths = np.array([answer for _, answer in self.prepared.rows])
        return replace(scores, smooth=np.exp(POWER * outcomes.likelihood * lengths, dtype=np.float32))

    def backward(self, model: PreTrainedModel, weights: NDArray[np.float64]) -> float:
        """See :class:`mergery.evaluate.SoftScorer`: a power of the probability, or the likelihood."""
        from mergery.evaluate.soft import backward

        power = None if self.evaluator.name == "likelihood" else POWER
        return backward(model, self.prepared, weights, power=power)
