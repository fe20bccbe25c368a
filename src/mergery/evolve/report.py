"""What a search found: the written model against its ingredients, on items the search never saw."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mergery.checkpoint import Checkpoint
from mergery.evaluate import Evaluator, Items, Scores, evaluate
from mergery.evaluate.intervals import Interval, bootstrap_mean, paired_bootstrap, wilson
from mergery.evolve.fitness import Scored, inputs_digest, score_once
from mergery.evolve.home import write_whole
from mergery.evolve.ledger import Ledger
from mergery.evolve.trial import Trial
from mergery.recipe import ModelRef, Recipe

__all__ = ["Contestant", "Report", "compare"]


@dataclass(frozen=True, eq=False)
class Contestant:
    """One model on both sets of items.

    Attributes:
        name: the recipe's name for it; ``best`` for the merge.
        role: ``best``, ``base`` or ``parent``.
        validation: its scores on the items that the search saw.
        test: its scores on those that it did not.
    """

    name: str
    role: str
    validation: Scores
    test: Scores


@dataclass(frozen=True, eq=False)
class Report:
    """A search's result in numbers.

    Attributes:
        best: the written model, loaded again with stock transformers.
        others: the base and the parents.
        claimed: the best trial's score, as the search saw it.
        trials: all trials.
        evaluator: how they were scored.
    """

    best: Contestant
    others: tuple[Contestant, ...]
    claimed: float
    trials: tuple[Trial, ...]
    evaluator: Evaluator

    def to_dict(self) -> dict[str, object]:
        """Plain data for JSON."""
        building = sum(trial.build_seconds for trial in self.trials)
        scoring = sum(trial.score_seconds for trial in self.trials)
        overhead = sum(trial.overhead_seconds for trial in self.trials)
        return {
            "metric": self.evaluator.name,
            "direction": self.evaluator.direction,
            "best": self._contestant(self.best) | {"claimed_validation": self.claimed},
            "others": [
                self._contestant(other) | {"best_minus_this_test": _interval(self._difference(other))}
                for other in self.others
            ],
            "items": {"validation": len(self.best.validation.hashes), "test": len(self.best.test.hashes)},
            "trials": len(self.trials),
            "failed_trials": sum(trial.score is None for trial in self.trials),
            "seconds": {"building": building, "scoring": scoring, "overhead": overhead},
        }

    def save(self, path: Path) -> None:
        """Write the report as JSON."""
        write_whole(path, json.dumps(self.to_dict(), indent=2) + "\n")

    def interval(self, scores: Scores) -> Interval:
        """95 % interval of a score: Wilson's for proportions, bootstrap for means."""
        if self.evaluator.proportion and np.isfinite(scores.outcomes).all():
            return wilson(int(scores.outcomes.sum()), len(scores.outcomes))
        return bootstrap_mean(scores.outcomes)

    def _difference(self, other: Contestant) -> Interval:
        return paired_bootstrap(self.best.test.outcomes, other.test.outcomes)

    def _contestant(self, contestant: Contestant) -> dict[str, object]:
        return {
            "name": contestant.name,
            "role": contestant.role,
            "validation": _interval(self.interval(contestant.validation)),
            "test": _interval(self.interval(contestant.test)),
        }


def compare(
    recipe: Recipe,
    model: Path,
    validation: Items,
    test: Items,
    *,
    evaluator: Evaluator,
    ledger: Ledger,
    device: str,
) -> tuple[Contestant, tuple[Contestant, ...]]:
    """Score a written model and its ingredients on the same items.

    Args:
        recipe: the model's.
        model: its directory.
        validation: items that the search saw.
        test: items that it did not.
        evaluator: how to score.
        ledger: what was scored before is looked up there.
        device: where to run the models.

    Returns:
        The model, then the base and the parents in the recipe's order.
    """

    def contestant(name: str, role: str, ref: ModelRef) -> Contestant:
        directory = Checkpoint.open(ref).directory
        digest = inputs_digest([ref])

        def score(items: Items) -> Scores:
            def fresh() -> Scored:
                return Scored(evaluate(directory, items, evaluator=evaluator.name, device=device), 0.0, 0.0)

            return score_once(ledger, f"directory {digest}", evaluator, items, fresh).scores

        return Contestant(name, role, score(validation), score(test))

    others: Sequence[tuple[str, ModelRef]] = [
        ("base" if ref == recipe.base_model else "parent", ref) for ref in recipe.models
    ]
    ordered = sorted(others, key=lambda entry: entry[0] != "base")
    return (
        contestant("best", "best", ModelRef(str(model))),
        tuple(contestant(str(ref), role, ref) for role, ref in ordered),
    )


def _interval(interval: Interval) -> Mapping[str, float]:
    return {"score": interval.estimate, "low": interval.low, "high": interval.high}
