"""Greedy soups: averages to which a model is added only where that does not hurt."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

from mergery.errors import RecipeError, StudyError
from mergery.evaluate import Direction
from mergery.evolve.fitness import Scored
from mergery.recipe import Recipe

__all__ = ["greedy_soup"]

_AVERAGES = ("linear", "uniform_soup")


def greedy_soup(
    soup: Recipe,
    score: Callable[[Recipe], Scored],
    *,
    direction: Direction = "maximize",
    tolerance: float = 0.0,
) -> Recipe:
    """Choose which of many models to average (greedy soup, arXiv:2203.05482, recipe 1).

    The models are sorted by their own scores. Beginning with the best, each is added to the average if the
    average with it scores no worse than the best one so far. K models take 2 K - 1 scores at most.

    ::

        soup = Recipe.load("soup.yml")  # linear, of all models
        fitness = Fitness.open(soup, "held_out.jsonl")
        chosen = greedy_soup(soup, fitness.score, direction=fitness.evaluator.direction)

    Score on held-out items, others than those that the result is reported on.

    Args:
        soup: the average of all of them: a ``linear`` or ``uniform_soup`` recipe without a base.
        score: what a recipe scores; NaN is the worst.
        direction: which way the score is better.
        tolerance: by how much a score may be worse and still count as no worse.

    Returns:
        The same recipe with the chosen models only, in the order in which they were listed.

    Raises:
        RecipeError: if it is not such an average.
        StudyError: if no model has a score.
    """
    _check(soup)
    sign = 1.0 if direction == "maximize" else -1.0

    def value(places: Sequence[int]) -> float:
        reached = sign * score(_with(soup, places)).scores.value
        return -math.inf if math.isnan(reached) else reached

    count = len(soup.slices[0].sources)
    alone = [value([place]) for place in range(count)]
    first, *others = sorted(range(count), key=lambda place: -alone[place])
    chosen, best = [first], alone[first]
    if best == -math.inf:
        raise StudyError("none of the soup's models has a score", fix="check the models and the items")
    for place in others:
        if alone[place] == -math.inf:
            break
        larger = sorted([*chosen, place])
        reached = value(larger)
        if reached >= best - tolerance:
            chosen, best = larger, max(best, reached)
    return _with(soup, chosen)


def _check(soup: Recipe) -> None:
    """Make sure that models can be taken out of a recipe one by one."""
    if soup.merge_method not in _AVERAGES:
        raise RecipeError(
            f"merge_method: a greedy soup is an average, got {soup.merge_method}",
            fix=f"write merge_method: {_AVERAGES[0]}",
        )
    if len(soup.slices) != 1 or soup.slices[0].base_model is not None or soup.base_model is not None:
        raise RecipeError(
            "models: a greedy soup is made of whole models and without a base",
            fix="list the models under models:, the base among them if it is to be tried",
        )


def _with(soup: Recipe, places: Sequence[int]) -> Recipe:
    """The soup of some of its models."""
    (part,) = soup.slices
    return replace(soup, slices=(replace(part, sources=tuple(part.sources[place] for place in places)),))
