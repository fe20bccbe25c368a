"""Everything that is wrong with a recipe file, said before anything is downloaded or a weight is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from mergery.checkpoint import Checkpoint, ModelRef
from mergery.checkpoint.hub import locate, on_hub
from mergery.engine.plan import Plan, make_plan
from mergery.errors import MergeryError
from mergery.recipe import Recipe, read_file

__all__ = ["Diagnosis", "diagnose"]

T = TypeVar("T")


@dataclass(frozen=True)
class Diagnosis:
    """What was found out about a recipe file.

    Attributes:
        mistakes: all that must be mended.
        warnings: what has no effect in the recipe, and the plan's risks.
        remote: models on the hub, which were not looked at; without them there is no plan.
        plan: the merge, if it could be planned.
    """

    mistakes: tuple[MergeryError, ...]
    warnings: tuple[str, ...] = ()
    remote: tuple[ModelRef, ...] = ()
    plan: Plan | None = None


def diagnose(path: Path) -> Diagnosis:
    """Check a recipe file, then its models if they are all local; reads no weight, downloads nothing."""
    reading = read_file(path)
    recipe = reading.recipe
    if recipe is None:
        return Diagnosis(reading.mistakes, reading.notes)
    tokenizers = [ref for ref in dict.fromkeys(_tokenizers(recipe)) if ref not in recipe.models]
    remote = tuple(ref for ref in (*recipe.models, *tokenizers) if _is_remote(ref))
    models, mistakes = _attempt(Checkpoint.open, [ref for ref in recipe.models if ref not in remote])
    _, missing = _attempt(locate, [ref for ref in tokenizers if ref not in remote])
    mistakes += missing
    if mistakes or remote:
        return Diagnosis(tuple(mistakes), reading.notes, remote)
    try:
        plan = make_plan(recipe, models)
        return Diagnosis((), (*reading.notes, *plan.risks), plan=plan)
    except MergeryError as mistake:
        return Diagnosis((mistake,), reading.notes)


def _attempt(
    look: Callable[[ModelRef], T], refs: Iterable[ModelRef]
) -> tuple[dict[ModelRef, T], list[MergeryError]]:
    """What ``look`` finds for each model, and what it finds wrong."""
    found, mistakes = {}, []
    for ref in refs:
        try:
            found[ref] = look(ref)
        except MergeryError as mistake:
            mistakes.append(mistake)
    return found, mistakes


def _is_remote(ref: ModelRef) -> bool:
    return on_hub(ref) or (ref.adapter is not None and on_hub(ref.adapter))


def _tokenizers(recipe: Recipe) -> Iterator[ModelRef]:
    """The models whose vocabulary is asked for by name, in the recipe and inside it."""
    if recipe.tokenizer and isinstance(recipe.tokenizer.source, ModelRef):
        yield recipe.tokenizer.source
    for model in recipe.inputs:
        if isinstance(model, Recipe):
            yield from _tokenizers(model)
