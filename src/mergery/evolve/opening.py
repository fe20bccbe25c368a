"""A search, checked: everything that can be wrong is found before a weight is read."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, replace

from mergery.checkpoint import ModelRef
from mergery.errors import RecipeError
from mergery.evolve.algorithms import AlgorithmKind, Problem, get_algorithm
from mergery.evolve.candidate import Candidate
from mergery.evolve.confirm import confirm_cost
from mergery.evolve.exam import Exam
from mergery.evolve.front import front_cost
from mergery.evolve.objectives import check_objectives
from mergery.evolve.paths.joint import JointSpace
from mergery.evolve.paths.space import PathSpace, open_joint, open_paths
from mergery.evolve.references import plain_merges
from mergery.evolve.search import SearchSpec
from mergery.evolve.space import SearchSpace
from mergery.evolve.study import Budget, Reference
from mergery.evolve.tasks import exams, load_tasks
from mergery.evolve.trial import Trial
from mergery.recipe import Recipe

__all__ = ["Search"]

_MOST_FINALISTS = 8

_CONFIRM_SHARE = 1 / 8
"""Of the budget, which confirming takes at most where the search does not say how many finalists it wants."""


@dataclass(frozen=True)
class Search:
    """A search whose every part has been checked; no weight has been read.

    Attributes:
        spec: as it was written.
        space: where to look.
        kind: with what algorithm.
        exam: what candidates are asked.
        confirm: what finalists are asked; ``None`` if nothing is held back.
        test: what judges.
        racing: whether poor candidates are given up.
        references: what is tried first.
    """

    spec: SearchSpec
    space: SearchSpace | PathSpace | JointSpace
    kind: AlgorithmKind
    exam: Exam
    confirm: Exam | None
    test: Exam
    racing: bool
    references: tuple[Reference, ...]

    @classmethod
    def open(cls, spec: SearchSpec) -> Search:
        """Check everything that can be wrong before a weight is read.

        Raises:
            MergeryError: if the search, a model or the items are at fault.
        """
        settings, kind = spec.search, get_algorithm(spec.search.algorithm)
        for name in ("population", "sigma"):
            if getattr(settings, name) is not None and name not in kind.settings:
                raise RecipeError(f"search.{name}: {kind.name} has no {name}", fix=f"remove {name}")
        if settings.objectives or settings.preference is not None:
            check_objectives(settings, kind, tuple(spec.tasks))
        # who is worse in one objective may be better in another: several are not raced
        racing = kind.frugal and not settings.objectives if settings.racing is None else settings.racing
        tasks = load_tasks(spec.tasks)
        space = _space(spec)
        plain = kind.frugal if settings.references is None else settings.references
        if kind.gradients and not all(task.evaluator.soft for task in tasks):
            raise RecipeError(
                f"search.algorithm: {kind.name} needs gradients, and a task's evaluator has none",
                fix="choose another algorithm, or the evaluator exact_match or likelihood",
            )
        search, confirming, test = exams(
            tasks, racing=racing, objectives=settings.objectives, most=settings.items
        )
        return cls(spec, space, kind, search, confirming, test, racing, _references(space) if plain else ())

    def __post_init__(self) -> None:
        short = 0 if self.budget.items is None else len(self.exam) - self.budget.items
        if short > 0:
            raise RecipeError(
                f"search.budget: {self.spec.search.budget} item evaluations leave none for trials",
                fix=f"give {short} more" + (", fewer finalists, or confirm: 0" if self.confirm else ""),
            )

    @property
    def problem(self) -> Problem:
        """What the algorithm is told of the space and of the exam."""
        soft = all(section.evaluator.soft for section in self.exam.sections)
        soft = soft and isinstance(self.space, SearchSpace)
        count = len(self.exam.directions)
        return replace(
            self.space.problem, objectives=count, gradients=soft and count == 1 and self.spec.search.gradients
        )

    @property
    def start(self) -> Recipe:
        """Where the search begins."""
        return self.space.starts[0]

    @property
    def models(self) -> tuple[ModelRef, ...]:
        """Every model that candidates are made of, whatever their method or path, each once."""
        return tuple(dict.fromkeys(ref for start in self.space.starts for ref in start.models))

    @property
    def budget(self) -> Budget:
        """What trials may cost: the search's budget, less what is kept for the finalists."""
        items = self.spec.search.budget
        return Budget(None if items is None else items - self.reserve, self.spec.search.trials)

    @property
    def reserve(self) -> int:
        """Item evaluations that are kept for the finalists."""
        return self._confirming(self.finalists)

    @property
    def finalists(self) -> int:
        """How many of the best candidates are asked the items held back."""
        settings, count = self.spec.search, _MOST_FINALISTS
        if settings.finalists is not None or self.exam.objectives:
            return settings.finalists or count
        share = math.inf if settings.budget is None else _CONFIRM_SHARE * settings.budget
        while count > 1 and self._confirming(count) > share:
            count //= 2
        return count

    def _confirming(self, finalists: int) -> int:
        if self.confirm is None:
            return 0
        return (front_cost if self.exam.objectives else confirm_cost)(finalists, self.confirm.ends)

    def identity(self, inputs: str) -> str:
        """Hash of all that decides a trial: the study's name."""
        settings = self.spec.search
        parts = [
            self.space.identity,
            [
                self.kind.name,
                settings.seed,
                settings.population,
                settings.sigma,
                self.racing,
                settings.gradients,
            ],
            [reference.candidate.recipe.digest for reference in self.references],
            [self.exam.identity, self.test.identity],
            inputs,
        ]
        return f"mergery-{hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]}"

    def candidate(self, trial: Trial) -> Candidate:
        """What a trial tried."""
        if trial.genome is None:
            return self.references[trial.number].candidate
        return self.space.candidate(trial.genome)


def _space(spec: SearchSpec) -> SearchSpace | PathSpace | JointSpace:
    """Where to look.

    Raises:
        RecipeError: if the recipe or the paths are at fault.
        CheckpointError: if a model cannot be opened.
    """
    if spec.paths is None:
        return SearchSpace.open(spec.recipe)
    return open_joint(spec.recipe, spec.paths) if spec.paths.joint else open_paths(spec.paths)


def _references(space: SearchSpace | PathSpace | JointSpace) -> tuple[Reference, ...]:
    """What is tried first: plain merges, where the search merges at all."""
    if isinstance(space, PathSpace):
        return ()
    if isinstance(space, SearchSpace):
        return plain_merges(space)
    merges = plain_merges(space.weights)
    return tuple(replace(merge, candidate=space.merged(merge.candidate.recipe)) for merge in merges)
