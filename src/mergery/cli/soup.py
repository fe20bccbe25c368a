"""``mergery soup``: many models and held-out items in, the average of those that help out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mergery.evolve.fitness import Scored
    from mergery.recipe import Recipe

__all__ = ["soup"]


def soup(
    recipe: Annotated[
        Path, typer.Argument(help="The average of all models: a linear recipe without a base.")
    ],
    items: Annotated[Path, typer.Argument(help="Held-out items to choose on: a JSONL file.")],
    out: Annotated[Path, typer.Argument(help="The directory to write; it must not exist, or be empty.")],
    evaluator: Annotated[str, typer.Option(help="How to score: exact_match or likelihood.")] = "exact_match",
    tolerance: Annotated[
        float, typer.Option(min=0.0, help="By how much a score may be worse and still count as no worse.")
    ] = 0.0,
    device: Annotated[str, typer.Option(help="Where to merge and score: cpu, cuda, ...")] = "cpu",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")] = False,
) -> None:
    """Average the models that do not hurt (greedy soup).

    Beginning with the best, each model is added if the average with it scores no worse.
    """
    from mergery.cli.screen import console, load_without_bars
    from mergery.engine import merge
    from mergery.engine.output import check_free
    from mergery.evolve import greedy_soup
    from mergery.evolve.fitness import Fitness
    from mergery.recipe import Recipe

    check_free(out)  # before the scoring, which is what takes long
    load_without_bars()
    whole = Recipe.load(recipe)
    fitness = Fitness.open(whole, items, evaluator=evaluator, device=device)

    def score(tried: Recipe) -> Scored:
        scored = fitness.score(tried)
        if not quiet:
            console.print(f"{scored.scores.value:.4f}  {' + '.join(_names(tried))}", markup=False)
        return scored

    chosen = greedy_soup(whole, score, direction=fitness.evaluator.direction, tolerance=tolerance)
    merge(chosen, out, device=device)
    if not quiet:
        console.print(f"wrote the average of {', '.join(_names(chosen))} to {out}", markup=False)


def _names(recipe: Recipe) -> list[str]:
    """The models as they are listed; a recipe in a model's place by its method."""
    models = [source.model for source in recipe.slices[0].sources]
    return [str(getattr(model, "merge_method", model)) for model in models]
