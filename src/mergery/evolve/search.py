"""The search file: a recipe with open knobs, how to search, and the task or tasks.

::

    recipe:
      merge_method: task_arithmetic
      base_model: zoo/base
      models:
        - model: zoo/language
          parameters:
            weight: {search: [-0.5, 3.0], start: 0.8, by: block}
        - model: zoo/maths
          parameters:
            weight: {search: true}
    search: {algorithm: cma-es, trials: 600, population: 12, sigma: 0.25, seed: 0}
    task: {evaluator: exact_match, validation: items/validation.jsonl, test: items/test.jsonl}

Paths are relative to the working directory, as in recipes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field, field_validator, model_validator

from mergery.errors import RecipeError
from mergery.evolve.algorithms.api import AlgorithmSettings
from mergery.recipe import Recipe
from mergery.recipe.border import Document, checked, load_yaml

__all__ = ["DEFAULT_CONFIRM", "PathsSpec", "SearchSettings", "SearchSpec", "TaskSpec"]

EVOLVED = "evolved"
"""What stands, among the models of paths, for the recipe that is searched for first."""

DEFAULT_CONFIRM = 0.25
"""Share of the validation items that is held back to confirm what the search found."""


@dataclass(frozen=True)
class SearchSettings:
    """How to search.

    Attributes:
        trials: recipes to try at most; ``None`` for no limit.
        budget: item evaluations to spend at most, confirmation included; ``None`` for no limit.
        items: how many items one candidate is asked, always the same ones; all, if ``None``. Gradients are
            taken on all of them, some at a time.
        algorithm: a registered search algorithm.
        seed: of its random numbers.
        population: points a generation, at least 4; the algorithm's own choice if ``None``.
        sigma: first standard deviation as a share of each knob's range (0.25 of [-0.5, 3.0] is 0.875); the
            algorithm's own choice if ``None``.
        racing: whether candidates that are clearly worse than the best are given up before they were asked
            all items; the algorithm's own choice if ``None``.
        gradients: whether gradients may be taken, where the tasks' evaluators have them; a backward pass
            holds a gradient of every weight and the activations of a batch.
        references: whether plain merges by other methods are tried first; the algorithm's own choice if
            ``None``.
        finalists: how many of the best candidates are asked the items held back; 8 if ``None``, or, with one
            objective, fewer where that would take more than an eighth of the budget.
        objectives: whether each task is an objective of its own; else their weighted mean is the one.
        preference: how much each objective matters when one recipe is picked from the front, by task;
            equally, if ``None``.
        workers: candidates asked at the same time, each in a process of its own; 1 is one for each GPU, or
            with ``ray`` as many as the cluster has room for.
        launcher: ``processes`` of this machine, or ``ray``.
        timeout: seconds after which a candidate that hangs has failed; ``None`` waits forever.
        storage: URL of a database that keeps the trials (``postgresql://...``); a file does if ``None``.
    """

    trials: int | None = None
    budget: int | None = None
    items: int | None = None
    algorithm: str = "staged"
    seed: int = 0
    population: int | None = None
    sigma: float | None = None
    racing: bool | None = None
    references: bool | None = None
    gradients: bool = True
    finalists: int | None = None
    objectives: bool = False
    preference: Mapping[str, float] | None = None
    workers: int = 1
    launcher: str = "processes"
    timeout: float | None = None
    storage: str | None = None

    @property
    def for_algorithm(self) -> AlgorithmSettings:
        """What the algorithm is told."""
        return AlgorithmSettings(self.seed, self.population, self.sigma)


@dataclass(frozen=True)
class TaskSpec:
    """What counts as better.

    Attributes:
        validation: JSONL items that the search sees.
        test: JSONL items that only the report sees.
        evaluator: a registered evaluator.
        confirm: JSONL items that finalists are asked; or the share of the validation items that is held
            back for that.
        weight: of this task's mean in the score, relative to the other tasks'.
    """

    validation: Path
    test: Path
    evaluator: str = "exact_match"
    confirm: Path | float = DEFAULT_CONFIRM
    weight: float = 1.0


@dataclass(frozen=True)
class PathsSpec:
    """Where a search in path space looks.

    Attributes:
        models: whose layers run: paths, ids, or recipes as plain data; the first is the donor of everything
            that is not a layer. ``evolved`` stands for what the file's ``recipe:`` is searched for first.
        encoding: ``aligned`` or ``paper`` (:mod:`mergery.evolve.paths.encoding`).
        longest: how many layers may run, as a multiple of the donor's (``aligned``).
        repeats: how often all layers stand in a row (``paper``).
        gains: whether layers may add more or less than they do (``aligned``).
        search: settings in place of the file's ``search:``, where a recipe is searched for first.
        joint: whether the recipe is searched for together with the path, and not before it.
    """

    models: tuple[str | Mapping[str, object], ...]
    encoding: str = "aligned"
    longest: float = 1.5
    repeats: int = 3
    gains: bool = True
    search: Mapping[str, object] = field(default_factory=dict)
    joint: bool = False


@dataclass(frozen=True)
class SearchSpec:
    """A search, written down.

    Attributes:
        recipe: plain data in the recipe's grammar, with knobs (:mod:`mergery.evolve.space`); empty if only
            paths are searched.
        search: how to search.
        tasks: what counts as better, by name; a file's ``task:`` is called ``task``.
        paths: where to look in path space, if there.
    """

    recipe: Mapping[str, object]
    search: SearchSettings
    tasks: Mapping[str, TaskSpec]
    paths: PathsSpec | None = None

    @classmethod
    def load(cls, path: Path | str) -> SearchSpec:
        """Read a search file.

        Raises:
            RecipeError: with the place in the file and the fix.
        """
        return cls.from_dict(load_yaml(Path(path)))

    @classmethod
    def from_dict(cls, data: Mapping[str, object]) -> SearchSpec:
        """Check plain data and make the search of it; the recipe and its knobs are checked when opened."""
        document = checked(_Search, data)
        if document.task is not None and document.tasks:
            raise RecipeError("tasks: there is a task, too", fix="list all of them under tasks:")
        tasks = document.tasks or ({} if document.task is None else {"task": document.task})
        if not tasks:
            raise RecipeError("task: missing", fix="write task: {validation: a.jsonl, test: b.jsonl}")
        return cls(
            recipe=document.recipe,
            search=SearchSettings(**document.search.model_dump()),
            tasks={name: TaskSpec(**task.model_dump()) for name, task in tasks.items()},
            paths=None if document.paths is None else PathsSpec(**document.paths.model_dump()),
        )

    def launched(self, *, workers: int | None = None, launcher: str | None = None) -> SearchSpec:
        """The same search with its trials run elsewhere.

        Args:
            workers: in place of its own, if given.
            launcher: in place of its own, if given.

        Raises:
            RecipeError: if there cannot be so many, or no such launcher is there.
        """
        changes = {"workers": workers, "launcher": launcher}
        given = {key: value for key, value in changes.items() if value is not None}
        settings = checked(_Settings, asdict(self.search) | given, where="search")
        return replace(self, search=SearchSettings(**settings.model_dump()))

    def to_dict(self) -> dict[str, object]:
        """Plain data in the search file's grammar, without what is as it is by default."""
        usual = SearchSettings()
        kept = {"algorithm", "seed"}
        search = {
            key: value
            for key, value in asdict(self.search).items()
            if key in kept or value != getattr(usual, key)
        }
        tasks = {name: _task_data(task) for name, task in self.tasks.items()}
        named = {"task": tasks["task"]} if list(tasks) == ["task"] else {"tasks": tasks}
        where: dict[str, object] = {"recipe": dict(self.recipe)} if self.recipe else {}
        if self.paths is not None:
            plain = PathsSpec(())
            written = {
                name: value for name, value in asdict(self.paths).items() if value != getattr(plain, name)
            }
            where["paths"] = written | {"models": list(self.paths.models)}
        return {**where, "search": search, **named}

    @property
    def staged(self) -> bool:
        """Whether it is two searches: weights first, then a path."""
        return bool(self.recipe) and self.paths is not None and not self.paths.joint

    def weights_only(self) -> SearchSpec:
        """The search for the recipe alone."""
        return replace(self, paths=None)

    def paths_with(self, evolved: Recipe) -> SearchSpec:
        """The search for the path alone, with a recipe for the model called ``evolved``."""
        assert self.paths is not None
        models = [evolved.to_dict() if model == EVOLVED else model for model in self.paths.models]
        data = self.to_dict()
        paths = {name: value for name, value in dict(data.pop("paths")).items() if name != "search"}  # type: ignore[call-overload]
        search = dict(data["search"]) | dict(self.paths.search)  # type: ignore[call-overload]
        data.pop("recipe", None)
        return SearchSpec.from_dict(data | {"paths": paths | {"models": models}, "search": search})

    def to_yaml(self) -> str:
        """The search as text that :meth:`load` reads."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, width=110)


def _task_data(task: TaskSpec) -> dict[str, object]:
    data: dict[str, object] = {
        "evaluator": task.evaluator,
        "validation": str(task.validation),
        "test": str(task.test),
    }
    if task.confirm != DEFAULT_CONFIRM:
        data["confirm"] = str(task.confirm) if isinstance(task.confirm, Path) else task.confirm
    if task.weight != 1.0:
        data["weight"] = task.weight
    return data


class _Settings(Document):
    algorithm: str = "staged"
    trials: int | None = Field(default=None, ge=1)
    budget: int | None = Field(default=None, ge=1)
    items: int | None = Field(default=None, ge=1)
    population: int | None = Field(default=None, ge=4)
    sigma: float | None = Field(default=None, gt=0, le=1)
    seed: int = Field(default=0, ge=0, lt=2**32)
    racing: bool | None = None
    references: bool | None = None
    gradients: bool = True
    finalists: int | None = Field(default=None, ge=1)
    objectives: bool = False
    preference: dict[str, float] | None = None
    workers: int = Field(default=1, ge=1)
    launcher: Literal["processes", "ray"] = "processes"
    timeout: float | None = Field(default=None, gt=0)
    storage: str | None = Field(default=None, pattern=r"^[a-z0-9+]+://")

    @field_validator("trials", "budget", "items", "population", "seed", "finalists", "workers", mode="before")
    @classmethod
    def _whole(cls, value: object) -> object:
        if isinstance(value, bool | str):
            raise ValueError("expected a whole number")
        return value

    @model_validator(mode="after")
    def _ends(self) -> _Settings:
        if self.trials is None and self.budget is None:
            raise ValueError("says neither trials nor budget, so it would never end")
        return self


class _Task(Document):
    evaluator: str = "exact_match"
    validation: Path
    test: Path
    confirm: float | Path = DEFAULT_CONFIRM
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)

    @field_validator("confirm")
    @classmethod
    def _share(cls, value: float | Path) -> float | Path:
        if not isinstance(value, Path) and not 0 <= value < 1:
            raise ValueError("expected a path, or a share from 0 to below 1")
        return value


class _Paths(Document):
    models: tuple[str | dict[str, object], ...] = Field(min_length=1)
    encoding: Literal["aligned", "paper"] = "aligned"
    longest: float = Field(default=1.5, ge=1)
    repeats: int = Field(default=3, ge=1)
    gains: bool = True
    search: dict[str, object] = Field(default_factory=dict)
    joint: bool = False

    @model_validator(mode="after")
    def _one_search(self) -> _Paths:
        if self.joint and self.search:
            raise ValueError("joint: true is one search, with the settings of the file's search:")
        return self


class _Search(Document):
    recipe: dict[str, object] = Field(default_factory=dict)
    paths: _Paths | None = None
    search: _Settings
    task: _Task | None = None
    tasks: dict[str, _Task] = Field(default_factory=dict)
