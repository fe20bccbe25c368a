"""Candidates built in memory and asked an exam's items, rung by rung, as long as there is hope."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from mergery.errors import RecipeError
from mergery.evaluate import Scorer, SoftScorer
from mergery.evaluate.api import context_of
from mergery.evolve.algorithms.api import Point
from mergery.evolve.candidate import Candidate
from mergery.evolve.exam import Exam, Part
from mergery.evolve.ledger import Answers, Ledger, ledger_key
from mergery.evolve.space import Genome

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from mergery.evolve.slopes import Slopes

__all__ = ["Builder", "Examined", "Examiner", "Hope", "Slope"]

Hope = Callable[[NDArray[np.float32]], bool]
"""Whether a candidate with these losses, on the first items, shall be asked more."""


class Builder(Protocol):
    """Makes live models of candidates, one after the other."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Of all its models."""
        ...

    def build(self, candidate: Candidate) -> PreTrainedModel:
        """The candidate's model; it stands until the next is built.

        Raises:
            RecipeError: if the candidate does not fit, or its merge is not finite.
            ArithmeticError: if the method's linear algebra fails.
        """
        ...


@dataclass(frozen=True, eq=False)
class Examined:
    """One candidate's answers and what they cost.

    Attributes:
        outcomes: ``(k,)`` float32 in the exam's order; fewer than the exam has if it was given up.
        smooth: ``(k,)`` float32 their smooth companions; NaN where the evaluator has none.
        build_seconds: merging it in memory; 0 if the ledger knew all.
        score_seconds: scoring it.
    """

    outcomes: NDArray[np.float32]
    smooth: NDArray[np.float32]
    build_seconds: float = 0.0
    score_seconds: float = 0.0


@dataclass(frozen=True)
class Slope:
    """A smooth loss and its gradient on some items.

    Attributes:
        loss: minus the weighted mean of the items' smooth companions.
        gradient: by each coordinate of the unit cube.
        items: how many.
        build_seconds: merging, and multiplying the gradient of the weights with the models.
        score_seconds: forward and backward passes.
    """

    loss: float
    gradient: Point
    items: int
    build_seconds: float
    score_seconds: float

    @property
    def seconds(self) -> float:
        """That it took."""
        return self.build_seconds + self.score_seconds


class Examiner:
    """Asks candidates an exam.

    Args:
        builder: makes their models.
        exam: what to ask.
        ledger: what was answered before is looked up there, and what is new is kept.
        inputs: digest of the models that candidates are made of.
        slopes: differentiates candidates' losses, where that can be done.
    """

    def __init__(
        self, builder: Builder, exam: Exam, ledger: Ledger, inputs: str, slopes: Slopes | None = None
    ) -> None:
        self._slopes = slopes
        self.exam = exam
        self._builder = builder
        self._ledger = ledger
        self._inputs = inputs
        self._scorers: dict[tuple[str, ...], Scorer] = {}

    def examine(self, candidate: Candidate, hope: Hope | None = None) -> Examined:
        """Ask one candidate.

        Args:
            candidate: what to ask.
            hope: asked after every rung but the last whether to go on; always, if ``None``.

        Raises:
            RecipeError: if the candidate cannot be built, or an answer is not finite.
            ArithmeticError: if its linear algebra fails.
        """
        outcomes = np.full(len(self.exam), np.nan, np.float32)
        smooth = outcomes.copy()
        live = _Live(self._builder, candidate)
        begin = time.perf_counter()
        for rung, asked in zip(self.exam.rungs, self.exam.ends, strict=True):
            for part in rung:
                answers = self._find(candidate.recipe.digest, part) or self._ask(candidate, part, live)
                outcomes[part.places], smooth[part.places] = answers.outcomes, answers.smooth
            if not np.isfinite(outcomes[:asked]).all():
                raise RecipeError(
                    "the merged model's outputs are not finite", fix="narrow the ranges of the search"
                )
            if hope and asked < len(self.exam) and not hope(self.exam.losses(outcomes[:asked])):
                break
        spent = time.perf_counter() - begin - live.seconds
        return Examined(outcomes[:asked], smooth[:asked], live.seconds, spent)

    def slope(self, genome: Genome, batch: int) -> Slope:
        """The gradient of the smooth loss on one batch of items.

        Args:
            genome: where in the space.
            batch: number of the batch (:meth:`Exam.batch`).

        Raises:
            RecipeError: if the candidate cannot be built, or its gradient is not finite.
        """
        if self._slopes is None:
            raise RecipeError("this space has no gradients", fix="choose another algorithm")
        parts, begin, spent = self.exam.batch(batch), time.perf_counter(), 0.0
        count = sum(len(part.items) for part in parts)

        def backward(model: PreTrainedModel) -> float:
            nonlocal spent
            loss, start = 0.0, time.perf_counter()
            for part in parts:
                scorer = self._scorer(part, model)
                assert isinstance(scorer, SoftScorer)
                loss += scorer.backward(model, self.exam.weights[part.places] / count)
            spent = time.perf_counter() - start
            return loss

        loss, gradient = self._slopes.at(genome, backward)
        if not np.isfinite([loss, *gradient]).all():
            raise RecipeError("the gradient is not finite", fix="narrow the ranges of the search")
        return Slope(loss, gradient, count, time.perf_counter() - begin - spent, spent)

    def recall(self, candidate: Candidate, count: int) -> Examined:
        """The first ``count`` answers of a candidate; the ledger knows them, unless it was lost."""
        return self.examine(candidate, lambda losses: len(losses) < count)

    def known(self, candidate: Candidate) -> Examined:
        """What the ledger knows of a candidate's answers: the first rungs, as far as they are whole."""
        outcomes = np.full(len(self.exam), np.nan, np.float32)
        smooth, asked = outcomes.copy(), 0
        for rung, end in zip(self.exam.rungs, self.exam.ends, strict=True):
            for part in rung:
                answers = self._find(candidate.recipe.digest, part)
                if answers is None:
                    return Examined(outcomes[:asked], smooth[:asked])
                outcomes[part.places], smooth[part.places] = answers.outcomes, answers.smooth
            asked = end
        return Examined(outcomes, smooth)

    def keep(self, candidate: Candidate, examined: Examined) -> None:
        """Put into the ledger what a candidate answered elsewhere."""
        for rung, end in zip(self.exam.rungs, self.exam.ends, strict=True):
            for part in rung if end <= len(examined.outcomes) else ():
                answers = Answers(examined.outcomes[part.places], examined.smooth[part.places])
                self._keep(candidate, part, answers)

    def _find(self, recipe: str, part: Part) -> Answers | None:
        return self._ledger.find(self._key(recipe), part.evaluator.name, part.items.hashes)

    def _keep(self, candidate: Candidate, part: Part, answers: Answers) -> None:
        key = self._key(candidate.recipe.digest)
        self._ledger.keep(key, part.evaluator.name, part.items.hashes, answers)

    def _ask(self, candidate: Candidate, part: Part, live: _Live) -> Answers:
        scores = self._scorer(part, live.model).score(live.model)
        smooth = np.full_like(scores.outcomes, np.nan) if scores.smooth is None else scores.smooth
        answers = Answers(scores.outcomes, smooth)
        self._keep(candidate, part, answers)
        return answers

    def _scorer(self, part: Part, model: PreTrainedModel) -> Scorer:
        key = (part.evaluator.name, part.items.digest)
        if key not in self._scorers:
            self._scorers[key] = part.evaluator.prepare(
                self._builder.tokenizer, part.items, context=context_of(model)
            )
        return self._scorers[key]

    def _key(self, recipe: str) -> str:
        return ledger_key("recipe", recipe, self._inputs)


class _Live:
    """A candidate's model, built when the first answer is not known.

    Attributes:
        seconds: that building took.
    """

    def __init__(self, builder: Builder, candidate: Candidate) -> None:
        self._builder, self._candidate = builder, candidate
        self.seconds = 0.0

    @cached_property
    def model(self) -> PreTrainedModel:
        """The model; it stands until the next candidate's is built."""
        from torch.linalg import LinAlgError  # type: ignore[attr-defined]  # torch exports it by assignment

        begin = time.perf_counter()
        try:
            return self._builder.build(self._candidate)
        except LinAlgError as problem:
            raise ArithmeticError(str(problem)) from problem
        finally:
            self.seconds = time.perf_counter() - begin
