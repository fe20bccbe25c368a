"""Several objectives: what a search for a front must say, and how much each objective matters."""

from __future__ import annotations

import math
from collections.abc import Sequence

from mergery.errors import RecipeError
from mergery.evolve.algorithms import AlgorithmKind, algorithm_names, get_algorithm
from mergery.evolve.search import SearchSettings

__all__ = ["check_objectives", "preferences"]


def check_objectives(settings: SearchSettings, kind: AlgorithmKind, tasks: Sequence[str]) -> None:
    """Make sure that a search can have its tasks as objectives.

    Args:
        settings: the search's.
        kind: its algorithm.
        tasks: their names.

    Raises:
        RecipeError: if there is one task only, the algorithm knows one objective only, candidates are to be
            raced, or the preference does not fit the tasks.
    """
    if not settings.objectives:
        raise RecipeError(
            "search.preference: this search has one objective", fix="write objectives: true, or remove it"
        )
    if len(tasks) < 2:
        raise RecipeError(
            f"search.objectives: the only objective would be {tasks[0]}",
            fix="list two tasks or more under tasks:, or remove objectives",
        )
    if not kind.several:
        several = [name for name in algorithm_names() if get_algorithm(name).several]
        raise RecipeError(
            f"search.objectives: {kind.name} searches for one objective",
            fix=f"choose an algorithm that searches for several: {', '.join(several)}",
        )
    if settings.racing:
        raise RecipeError(
            "search.racing: who is worse in one objective may be better in another",
            fix="remove racing, or objectives",
        )
    preferences(settings, tasks)


def preferences(settings: SearchSettings, tasks: Sequence[str]) -> tuple[float, ...] | None:
    """How much each task matters, in the tasks' order; ``None`` if the search does not say.

    Raises:
        RecipeError: if a task has no weight, a weight has no task, or they are no weights.
    """
    given = settings.preference
    if given is None:
        return None
    for name in given:
        if name not in tasks:
            raise RecipeError(
                f"search.preference.{name}: no such task", fix=f"give each of {', '.join(tasks)} a weight"
            )
    missing = [name for name in tasks if name not in given]
    if missing:
        raise RecipeError(
            f"search.preference: says nothing of {', '.join(missing)}",
            fix="give it a weight, 0 if it does not matter",
        )
    weights = tuple(given[name] for name in tasks)
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights) or not any(weights):
        raise RecipeError(
            f"search.preference: {dict(given)}", fix="give weights of 0 or more, at least one above 0"
        )
    return weights
