"""What tests of searches share: files of items, and candidates scored by a formula in place of a model."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from mergery.evaluate import Items, Scores
from mergery.evaluate.items import Item
from mergery.evolve import SearchSpace
from mergery.evolve.candidate import Candidate
from mergery.evolve.exam import Exam, Section
from mergery.evolve.examiner import Examiner
from mergery.evolve.ledger import Ledger
from mergery.recipe import Recipe

WORDS = "the cat dog bird sees has takes one two three four five and or but a b c d . ?".split()  # noqa: SIM905

SPACE = SearchSpace.open(
    {
        "merge_method": "task_arithmetic",
        "base_model": "zoo/base",
        "models": [
            {"model": f"zoo/{name}", "parameters": {"weight": {"search": [-0.5, 3.0]}}} for name in "abc"
        ],
    }
)


def chance(*parts: object) -> float:
    """A number in [0, 1) that looks random and is always the same for the same parts."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest) / 2**64


def bowl(recipe: Recipe, item: Item) -> float:
    """Best where all weights are 0.7; some items are harder, and every recipe has its luck with each."""
    weights = [source.parameters["weight"] for source in recipe.slices[0].sources]
    luck = 0.2 * chance(recipe.digest, item.hash) + chance("hard", item.hash)
    return -sum((weight - 0.7) ** 2 for weight in weights) - luck


@dataclass(frozen=True)
class Formula:
    """An evaluator that computes an item's outcome from the recipe.

    Attributes:
        outcome: the formula.
        asked: ``(recipe, item)`` of everything that was asked.
    """

    outcome: Callable[[Recipe, Item], float] = bowl
    name: str = "formula"
    direction: str = "maximize"
    proportion: bool = False
    soft: bool = False
    smooth: bool = False
    asked: list[tuple[str, str]] = field(default_factory=list, compare=False)

    def prepare(self, tokenizer, items, *, context=None):
        return SimpleNamespace(score=lambda model: self.score(model.recipe, items))

    def score(self, recipe: Recipe, items: Items) -> Scores:
        self.asked.extend((recipe.digest, item.hash) for item in items)
        outcomes = np.array([self.outcome(recipe, item) for item in items], np.float32)
        smooth = 2 * outcomes if self.smooth else None
        return Scores(outcomes, items.hashes, (), smooth)


class Builder:
    """Builds nothing but remembers that it was asked to.

    Attributes:
        built: digests of the candidates.
    """

    tokenizer = None

    def __init__(self) -> None:
        self.built: list[str] = []

    def build(self, candidate: Candidate):
        self.built.append(candidate.recipe.digest)
        return SimpleNamespace(config=SimpleNamespace(), recipe=candidate.recipe)


def items(name: str, count: int) -> Items:
    return Items(name, tuple(Item(f"{name} {number}", " x", line=number + 1) for number in range(count)))


def write_items(path: Path, count: int, seed: int) -> Path:
    """A file of questions without meaning."""
    dice = random.Random(seed)
    seen: dict[str, str] = {}
    while len(seen) < count:
        seen[" ".join(dice.choice(WORDS) for _ in range(dice.randint(5, 9)))] = " " + dice.choice(WORDS[:6])
    path.write_text("".join(json.dumps({"prompt": p, "answer": a}) + "\n" for p, a in seen.items()))
    return path


def exam(
    *evaluators: Formula, count: int = 20, shares: tuple[float, ...] = (1.0,), objectives: bool = False
) -> Exam:
    """One task for each evaluator."""
    sections = [
        Section(f"task {place}", evaluator, items(f"t{place}", count))
        for place, evaluator in enumerate(evaluators or (Formula(),))
    ]
    return Exam(tuple(sections), shares, objectives)


def examiner(asked: Exam | None = None, ledger: Ledger | None = None) -> Examiner:
    return Examiner(Builder(), asked or exam(), ledger or Ledger(), "inputs")


def candidate(*weights: float) -> Candidate:
    return SPACE.candidate(weights)
