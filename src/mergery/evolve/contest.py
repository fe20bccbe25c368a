"""The winner beside its ingredients, and beside what merges without a search make of them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from mergery.checkpoint import ModelRef
from mergery.errors import RecipeError
from mergery.evolve.candidate import Candidate, stored
from mergery.evolve.paths.space import PathSpace
from mergery.evolve.references import task_arithmetic, uniform
from mergery.evolve.report import Contestant
from mergery.evolve.session import Session
from mergery.evolve.space import SearchSpace
from mergery.recipe import Recipe

__all__ = ["contestants"]


def contestants(session: Session) -> tuple[Contestant, tuple[Contestant, ...]]:
    """Ask the written model and its ingredients the items of the search and of the test.

    Returns:
        The model, as stock transformers loads it; then the base, the parents in the search's order, their
        plain average, and task arithmetic at the scale that is best on the items that the search saw. For a
        path that begins with a recipe's result: that result as it is.
    """
    checked = session.checked
    # a method without a base, or one model less, would hide what others were made of
    bases = [start.base_model for start in checked.space.starts if start.base_model is not None]
    ingredients = [
        _stored(session, str(ref), "base" if ref in bases else "parent", ref)
        for ref in sorted(checked.models, key=lambda ref: ref not in bases)
    ]
    best = _stored(session, "best", "best", ModelRef(str(session.home.model)))
    return best, (*ingredients, *_plain(session))


def _stored(session: Session, name: str, role: str, model: ModelRef) -> Contestant:
    validation, test = (
        session.examine_stored(model, exam).examine(stored(model)).outcomes
        for exam in (session.checked.exam, session.checked.test)
    )
    return Contestant(name, role, validation, test)


def _plain(session: Session) -> Iterator[Contestant]:
    """Merges without a search; those that cannot be made of these models are left out."""
    checked, space = session.checked, session.checked.space
    if isinstance(space, PathSpace):
        # a donor that is stored is among the parents
        if isinstance(space.models[0], Recipe):
            begin = space.decode(checked.problem.start)
            yield from _merged(session, "the donor as it is", space.candidate(begin))
        return
    weights, merged = (space, Candidate) if isinstance(space, SearchSpace) else (space.weights, space.merged)
    average = uniform(weights)
    if average is not None:
        yield from _merged(session, "uniform average", merged(average))
    scored: list[tuple[float, float, Recipe]] = []
    for scale, recipe in task_arithmetic(weights):
        with suppress(RecipeError, ArithmeticError):
            outcomes = session.examiner.examine(merged(recipe)).outcomes
            scored.append((float(checked.exam.losses(outcomes).mean()), scale, recipe))
    if scored:
        _, scale, recipe = min(scored, key=lambda entry: entry[:2])
        yield from _merged(session, f"task arithmetic, tuned to {scale:g}", merged(recipe))


def _merged(session: Session, name: str, candidate: Candidate) -> Iterator[Contestant]:
    with suppress(RecipeError, ArithmeticError):
        yield Contestant(
            name,
            "plain",
            session.examiner.examine(candidate).outcomes,
            session.examine(session.checked.test).examine(candidate).outcomes,
        )
