"""Greedy soups, on real tiny models and on scores that are made up."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoModelForCausalLM

from mergery.errors import RecipeError, StudyError
from mergery.evaluate import Scores, evaluate
from mergery.evolve.fitness import Fitness, Scored
from mergery.evolve.soup import greedy_soup
from mergery.recipe import Recipe


def linear(paths, **more) -> Recipe:
    return Recipe.from_dict({"merge_method": "linear", "models": [{"model": str(p)} for p in paths], **more})


def names(recipe: Recipe) -> list[str]:
    return [Path(source.model.path).name for source in recipe.slices[0].sources]


@pytest.fixture
def items(tmp_path) -> Path:
    dice, words = random.Random(1), "the cat dog bird sees has takes one two three".split()  # noqa: SIM905
    prompts = dict.fromkeys(" ".join(dice.choice(words) for _ in range(6)) for _ in range(30))
    path = tmp_path / "held_out.jsonl"
    lines = [json.dumps({"prompt": p, "answer": " " + dice.choice(words[:4])}) + "\n" for p in prompts]
    path.write_text("".join(lines))
    return path


def test_it_takes_the_best_steps_on_real_models(make_model, tokenizer, items):
    paths = [make_model(f"m{seed}", seed, near=0) for seed in range(8, 12)]
    loaded = [AutoModelForCausalLM.from_pretrained(path) for path in paths]
    states = [model.state_dict() for model in loaded]

    def by_hand(places) -> float:
        """The average's score, without recipes, merges or searches."""
        model = AutoModelForCausalLM.from_pretrained(paths[0])
        mean = {key: sum(states[p][key].double() for p in places) / len(places) for key in states[0]}
        model.load_state_dict({key: tensor.float() for key, tensor in mean.items()})
        return evaluate(model.eval(), items, evaluator="likelihood", tokenizer=tokenizer).value

    order = sorted(range(4), key=lambda place: -by_hand([place]))
    expected, best = order[:1], by_hand(order[:1])
    for place in order[1:]:
        if (reached := by_hand([*expected, place])) >= best:
            expected, best = [*expected, place], reached

    soup = linear(paths)
    fitness = Fitness.open(soup, items, evaluator="likelihood")
    chosen = greedy_soup(soup, fitness.score, direction=fitness.evaluator.direction)
    assert names(chosen) == [f"m{place + 8}" for place in sorted(expected)]
    assert 1 < len(expected) < 4
    assert fitness.score(chosen).scores.value == pytest.approx(best, abs=1e-5)
    assert Recipe.from_yaml(chosen.to_yaml()) == chosen


class Table:
    """Scores by the set of models, and who asked for what."""

    def __init__(self, scores: dict[str, float]) -> None:
        self._scores, self.asked = scores, []

    def __call__(self, recipe: Recipe) -> Scored:
        key = "".join(names(recipe))
        self.asked.append(key)
        outcome = np.array([self._scores[key]], np.float32)
        return Scored(Scores.mean_of(outcome, ("item",), name="made_up", direction="maximize"), 0, 0)


@pytest.mark.parametrize(
    ("scores", "chosen"),
    [
        ({"a": 1, "b": 3, "c": 2, "bc": 3, "abc": 2}, "bc"),  # as good is good enough
        ({"a": 1, "b": 3, "c": 2, "bc": 2, "ab": 4}, "ab"),  # one that hurts is left out, and it goes on
        ({"a": 3, "b": 3, "c": 3, "ab": 2, "ac": 2}, "a"),  # equal ones in their order
        ({"a": math.nan, "b": 1, "c": 2, "bc": math.nan}, "c"),
    ],
)
def test_it_adds_what_does_not_hurt(scores, chosen):
    table = Table(scores)
    assert names(greedy_soup(linear("abc"), table)) == list(chosen)
    assert table.asked == list(scores)


def test_lower_may_be_better():
    table = Table({"a": 1, "b": 3, "c": 2, "ac": 0.5, "abc": 0.6})
    assert names(greedy_soup(linear("abc"), table, direction="minimize")) == ["a", "c"]


def test_tolerance_does_not_add_up():
    table = Table({"a": 1, "b": 0.5, "c": 0.4, "ab": 0.9, "abc": 0.85})
    assert names(greedy_soup(linear("abc"), table, tolerance=0.125)) == ["a", "b"]


def test_the_recipe_keeps_what_else_it_says():
    soup = linear("ab", dtype="bfloat16", parameters={"normalize": True})
    chosen = greedy_soup(soup, Table({"a": 1, "b": 2, "ab": 0}))
    assert chosen == linear("b", dtype="bfloat16", parameters={"normalize": True})


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"merge_method": "ties", "base_model": "a"}, "a greedy soup is an average, got ties"),
        ({"merge_method": "linear", "base_model": "a"}, "without a base"),
    ],
)
def test_what_is_no_soup_is_refused(data, says):
    recipe = Recipe.from_dict({"models": [{"model": name} for name in "ab"], **data})
    with pytest.raises(RecipeError, match=says):
        greedy_soup(recipe, Table({}))


def test_models_without_scores_are_an_error():
    with pytest.raises(StudyError, match="none of the soup's models has a score"):
        greedy_soup(linear("ab"), Table(dict.fromkeys("ab", math.nan)))
