"""The search file: a recipe with open knobs, how to search, and the task.

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
from dataclasses import dataclass
from pathlib import Path

import yaml
from pydantic import Field, field_validator

from mergery.evolve.algorithms.api import AlgorithmSettings
from mergery.recipe.border import Document, checked, load_yaml

__all__ = ["SearchSettings", "SearchSpec", "TaskSpec"]


@dataclass(frozen=True)
class SearchSettings:
    """How to search.

    Attributes:
        trials: recipes to try in all.
        algorithm: a registered search algorithm.
        seed: of its random numbers.
        population: points a generation, at least 4; the algorithm's own choice if ``None``.
        sigma: first standard deviation as a share of each knob's range (0.25 of [-0.5, 3.0] is 0.875); the
            algorithm's own choice if ``None``.
    """

    trials: int
    algorithm: str = "cma-es"
    seed: int = 0
    population: int | None = None
    sigma: float | None = None

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
    """

    validation: Path
    test: Path
    evaluator: str = "exact_match"


@dataclass(frozen=True)
class SearchSpec:
    """A search, written down.

    Attributes:
        recipe: plain data in the recipe's grammar, with knobs (:mod:`mergery.evolve.space`).
        search: how to search.
        task: what counts as better.
    """

    recipe: Mapping[str, object]
    search: SearchSettings
    task: TaskSpec

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
        return cls(
            recipe=document.recipe,
            search=SearchSettings(**document.search.model_dump()),
            task=TaskSpec(**document.task.model_dump()),
        )

    def to_dict(self) -> dict[str, object]:
        """Plain data in the search file's grammar, defaults that an algorithm chooses left out."""
        search: dict[str, object] = {
            "algorithm": self.search.algorithm,
            "trials": self.search.trials,
            "population": self.search.population,
            "sigma": self.search.sigma,
            "seed": self.search.seed,
        }
        return {
            "recipe": dict(self.recipe),
            "search": {key: value for key, value in search.items() if value is not None},
            "task": {
                "evaluator": self.task.evaluator,
                "validation": str(self.task.validation),
                "test": str(self.task.test),
            },
        }

    def to_yaml(self) -> str:
        """The search as text that :meth:`load` reads."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, width=110)


class _Settings(Document):
    algorithm: str = "cma-es"
    trials: int = Field(ge=1)
    population: int | None = Field(default=None, ge=4)
    sigma: float | None = Field(default=None, gt=0, le=1)
    seed: int = Field(default=0, ge=0, lt=2**32)

    @field_validator("trials", "population", "seed", mode="before")
    @classmethod
    def _whole(cls, value: object) -> object:
        if isinstance(value, bool | str):
            raise ValueError("expected a whole number")
        return value


class _Task(Document):
    evaluator: str = "exact_match"
    validation: Path
    test: Path


class _Search(Document):
    recipe: dict[str, object]
    search: _Settings
    task: _Task
