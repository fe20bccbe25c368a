"""The loop: ask, merge, score, record, tell.

A search is continued by replay. Algorithms are deterministic, so a fresh one is asked again for every
recorded trial, gives the same point, is told the recorded score, and stands where the killed one stood; no
state is saved beside the trials.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from mergery.errors import RecipeError, StudyError
from mergery.evaluate import Direction
from mergery.evolve.algorithms import Algorithm, Outcome
from mergery.evolve.fitness import Scored
from mergery.evolve.record import Record
from mergery.evolve.space import Genome, SearchSpace
from mergery.evolve.trial import Progress, Trial, best_trial
from mergery.recipe import Recipe

__all__ = ["run_trials"]


def run_trials(
    space: SearchSpace,
    algorithm: Algorithm,
    score: Callable[[Recipe], Scored],
    record: Record,
    *,
    trials: int,
    direction: Direction,
    progress: Callable[[Progress], None] | None = None,
) -> tuple[Trial, ...]:
    """Try recipes until the record holds ``trials`` of them.

    Args:
        space: where to search.
        algorithm: a fresh run of a search algorithm.
        score: what a recipe scores. A :class:`RecipeError` or :class:`ArithmeticError` of it, or a score
            of NaN, makes a failed trial; any other exception ends the search.
        record: the trials so far; each new one is on disk before the next is asked for.
        trials: how many there shall be in all.
        direction: which way the score is better.
        progress: told after every trial.

    Returns:
        All trials, in order.

    Raises:
        StudyError: if the record is not what this algorithm asks for.
    """
    history = list(record.trials())
    if len(history) > trials:
        raise StudyError(
            f"the record holds {len(history)} trials, and {trials} are asked for", fix="raise search.trials"
        )
    for trial in history:
        (proposal,) = algorithm.ask()
        if space.decode(proposal.point) != trial.genome:
            raise StudyError(
                f"trial {trial.number}: recorded at {trial.genome}, asked for at {space.decode(proposal.point)}",
                fix="continue with the versions of mergery, cmaes and numpy that began the search, "
                "or begin anew in another directory",
            )
        algorithm.tell(proposal, Outcome((trial.loss(direction),)))
    recorded, begin = len(history), time.perf_counter()
    best, mark = best_trial(history, direction), begin
    for number in range(recorded, trials):
        (proposal,) = algorithm.ask()
        trial, mark = _try(number, space.decode(proposal.point), space, score, mark)
        record.add(trial)
        algorithm.tell(proposal, Outcome((trial.loss(direction),)))
        history.append(trial)
        best = best_trial([best, trial] if best else [trial], direction)
        if progress:
            pace = (time.perf_counter() - begin) / (number + 1 - recorded)
            left = pace * (trials - number - 1)
            progress(Progress(number + 1, trials, trial.score, best.score if best else None, left))
    return tuple(history)


def _try(
    number: int, genome: Genome, space: SearchSpace, score: Callable[[Recipe], Scored], mark: float
) -> tuple[Trial, float]:
    """One trial, and when its scoring ended; ``mark`` is when the one before it did."""
    digest, failure = "", None
    value: float | None = None
    build = spent = again = 0.0
    try:
        recipe = space.recipe(genome)
        digest = recipe.digest
        scored = score(recipe)
    except (RecipeError, ArithmeticError) as problem:
        failure = problem.message if isinstance(problem, RecipeError) else str(problem)
    else:
        build, spent = scored.build_seconds, scored.score_seconds
        again = 0.0 if scored.known else build + spent
        value = scored.scores.value
        if math.isnan(value):
            value, failure = None, "the merged model's outputs are not finite"
    end = time.perf_counter()
    overhead = max(0.0, end - mark - again)
    return Trial(number, genome, value, failure, digest, build, spent, overhead), end
