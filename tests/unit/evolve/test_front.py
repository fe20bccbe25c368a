"""Fronts of real searches, against merging and asking every member alone."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

from mergery import merge
from mergery.errors import DataError, RecipeError
from mergery.evaluate import Items, evaluate, get_evaluator, load_items
from mergery.evaluate.items import Item
from mergery.evolve import SearchSpec, Trial, evolve
from mergery.evolve.algorithms.pareto import pick
from mergery.evolve.exam import Exam, Section
from mergery.evolve.examiner import Examined
from mergery.evolve.fitness import Fitness
from mergery.evolve.front import Entrant, confirm_front, front_of, spread
from mergery.evolve.opening import Search
from mergery.recipe import Recipe


def exam_of(counts: dict[str, int], **settings: object) -> Exam:
    evaluator = get_evaluator("exact_match")
    sections = [
        Section(name, evaluator, Items(name, tuple(Item(f"{name} {at}", " x") for at in range(count))))
        for name, count in counts.items()
    ]
    return Exam(tuple(sections), objectives=True)


TWO = ("maximize", "maximize")


def trial(number: int, *values: float, **other: object) -> Trial:
    known = {"score": sum(values) / len(values), "whole": True, "recipe": str(number)} | other
    return Trial(number, (0.5,), values=values, **known)


def beats(one: Trial, other: Trial) -> bool:
    pairs = list(zip(one.values, other.values, strict=True))
    return all(x >= y for x, y in pairs) and any(x > y for x, y in pairs)


@pytest.mark.parametrize("seed", range(5))
def test_the_front_is_who_nobody_beats(seed):
    dice = random.Random(seed)
    trials = [trial(at, dice.randint(0, 6) / 6, dice.randint(0, 6) / 6) for at in range(30)]
    trials.append(trial(30, 1.0, 1.0, whole=False))
    trials.append(Trial(31, (0.5,), failure="no"))
    trials.append(trial(32, 1.0, 1.0, whole=False, gradient=(0.0,)))
    whole = trials[:30]
    alone = [one for one in whole if not any(beats(other, one) for other in whole)]
    first = {one.values: one for one in reversed(alone)}
    assert front_of(trials, TWO) == tuple(sorted(first.values(), key=lambda one: one.number))
    assert front_of(trials[30:32], TWO) == ()


def test_the_members_that_stay_are_spread_and_hold_the_preferred_one():
    line = [trial(at, at / 20, 1 - at / 20) for at in range(21)]
    middle = [one.number for one in spread(line, TWO, 5, None)]
    assert len(middle) == 5
    assert {0, 10, 20} <= {*middle}
    gaps = np.diff(sorted(middle))
    assert gaps.max() <= 2 * gaps.min() + 1
    # who wants the second task only, gets the one that is best there, even alone
    assert [one.number for one in spread(line, TWO, 1, (0.0, 1.0))] == [0]
    assert [one.number for one in spread(line, TWO, 1, (1.0, 0.0))] == [20]
    assert spread(line[:4], TWO, 8, None) == tuple(line[:4])
    assert spread([], TWO, 8, None) == ()


class Asked:
    """Who knows all answers."""

    def __init__(self, exam, answers):
        self.exam, self.answers = exam, answers

    def examine(self, candidate, hope):
        if self.answers[candidate] is None:
            raise RecipeError("not finite", fix="none")
        count = next(end for end in self.exam.ends if end == len(self.exam) or not hope(np.empty(end)))
        return Examined(self.answers[candidate][:count], self.answers[candidate][:count])


def test_who_is_beaten_on_fresh_items_leaves_and_what_is_claimed_is_no_luck():
    """Eight candidates of one quality: who is picked looks better than that, and the claims do not."""
    old, fresh = exam_of({"a": 30, "b": 20}), replace(exam_of({"a": 60, "b": 40}), shares=(0.5, 1.0))
    generator = np.random.default_rng(5)
    claimed, looked = [], []
    for _ in range(60):
        answers = {name: (generator.random(100) < 0.5).astype(np.float32) for name in range(8)}
        searched = {name: (generator.random(50) < 0.5).astype(np.float32) for name in range(8)}
        entrants = [Entrant(trial(name, 0.5, 0.5), name, searched[name]) for name in range(8)]
        front = confirm_front(entrants, old, Asked(fresh, answers), None)
        means = {}
        for name in range(8):
            known = [
                np.concatenate(
                    [searched[name][old.section_of == at], answers[name][:50][fresh.section_of[:50] == at]]
                )
                for at in range(2)
            ]
            means[name] = tuple(float(some.mean(dtype=np.float64)) for some in known)
        beaten = [
            name
            for name, mine in means.items()
            if any(
                all(x >= y for x, y in zip(other, mine, strict=True)) and other != mine
                for other in means.values()
            )
        ]
        assert sorted(left.trial.number for left in front.left) == beaten
        ordered = sorted({*means} - {*beaten}, key=lambda name: (-means[name][0], -means[name][1], name))
        assert [member.trial.number for member in front.members] == ordered
        assert front.picked == pick([[-x for x in means[name]] for name in ordered])
        winner = ordered[front.picked]
        assert front.confirmed.winner == winner
        assert front.confirmed.cost == 8 * 50 + len(ordered) * 50
        rest = [answers[winner][50:][fresh.section_of[50:] == at] for at in range(2)]
        assert [claim.estimate for claim in front.claims] == pytest.approx([some.mean() for some in rest])
        assert all(
            claim.low < claim.estimate < claim.high for claim in (*front.claims, front.confirmed.claim)
        )
        claimed.append(front.confirmed.claim.estimate - 0.5)
        looked.append(sum(means[winner]) / 2 - 0.5)
    assert np.mean(looked) > 0.03
    assert abs(np.mean(claimed)) < 3 * np.std(claimed) / np.sqrt(60)


def test_who_cannot_answer_is_no_member():
    exam = replace(exam_of({"a": 10, "b": 10}), shares=(0.5, 1.0))
    good = np.ones(20, np.float32)
    entrants = [Entrant(trial(name, 0.5, 0.5), name, good) for name in range(3)]
    front = confirm_front(entrants, exam, Asked(exam, {0: None, 1: good, 2: good}), None)
    assert [member.trial.number for member in front.members] == [1, 2]
    with pytest.raises(RecipeError, match="not finite"):
        confirm_front(entrants, exam, Asked(exam, dict.fromkeys(range(3))), None)


@pytest.fixture
def both(search, tmp_path):
    """Two tasks, each an objective."""
    task = search.pop("task")
    other = dict(task)
    # the same questions with other answers: who is better at one is worse at the other
    for split in ("validation", "test"):
        items = [json.loads(line) for line in Path(task[split]).read_text().splitlines()]
        lines = [json.dumps(item | {"answer": " two" if at % 2 else " or"}) for at, item in enumerate(items)]
        other[split] = str(tmp_path / f"other.{split}.jsonl")
        Path(other[split]).write_text("\n".join(lines))
    task["confirm"] = other["confirm"] = 0.5
    search["search"] = {"algorithm": "nsga2", "trials": 14, "population": 6, "seed": 3, "objectives": True}
    search["tasks"] = {"words": task, "answers": other}
    return search


def part_of(path: str, low: float, high: float, part: Path) -> Path:
    """The items of a file whose hashes are among those, in their order: half is searched, half held back."""
    lines = Path(path).read_text().splitlines()
    hashes = load_items(Path(path)).hashes
    order = sorted(range(len(lines)), key=lambda at: hashes[at])
    part.write_text("\n".join(lines[at] for at in order[int(low * len(lines)) : int(high * len(lines))]))
    return part


def test_a_front_is_written_and_says_what_its_models_score(both, tmp_path):
    out = tmp_path / "out"
    evolved = evolve(SearchSpec.from_dict(both), out)
    data = json.loads((out / "front.json").read_text())
    assert [member["recipe"] for member in data["members"]] == sorted(
        f"front/{path.name}" for path in (out / "front").iterdir()
    )
    assert [member["picked"] for member in data["members"]].count(True) == 1
    for place, member in enumerate(data["members"]):
        model = merge(Recipe.load(out / member["recipe"]), tmp_path / f"alone{place}").directory
        for name, task in both["tasks"].items():
            alone = evaluate(model, task["test"], evaluator=task["evaluator"])
            found = member["scores"][name]["test"]
            assert found["score"] == pytest.approx(alone.value, abs=1e-6)
            assert found["low"] <= found["score"] <= found["high"]
            for items, shares in (("validation", (0, 0.5)), ("confirm", (0.75, 1))):
                part = part_of(task["validation"], *shares, tmp_path / "part.jsonl")
                alone = evaluate(model, part, evaluator=task["evaluator"])
                assert member["scores"][name][items]["score"] == pytest.approx(alone.value, abs=1e-6)
        if member["picked"]:
            assert (out / member["recipe"]).read_text() == (out / "best.yml").read_text()
            report = json.loads((out / "report.json").read_text())
            assert report["best"]["test_by_task"] == pytest.approx(
                {name: member["scores"][name]["test"]["score"] for name in both["tasks"]}, abs=1e-6
            )
            assert list(report["verdict_by_task"]) == ["words", "answers"]
    assert evolved.front.members[evolved.front.picked].trial.recipe == evolved.best.digest
    assert (out / "front.png").read_bytes()[:4] == b"\x89PNG"


def test_another_preference_picks_anew_from_the_same_trials(both, tmp_path):
    out = tmp_path / "out"
    evolve(SearchSpec.from_dict(both), out)
    (out / "front" / "99.yml").write_text("merge_method: linear")
    picked = {}
    for name, other in (("words", "answers"), ("answers", "words")):
        both["search"]["preference"] = {name: 1.0, other: 0.0}
        evolved = evolve(SearchSpec.from_dict(both), out, progress=lambda progress: pytest.fail("a trial"))
        members = json.loads((out / "front.json").read_text())["members"]
        chosen_on = part_of(both["tasks"][name]["validation"], 0, 0.75, tmp_path / "part.jsonl")
        recipes = [Recipe.load(out / member["recipe"]) for member in members]
        fitness = Fitness.open(recipes[0], chosen_on, evaluator="likelihood")
        scores = [fitness.score(recipe).scores.value for recipe in recipes]
        assert scores[evolved.front.picked] == max(scores)
        assert Recipe.load(out / "best.yml") == evolved.best
        assert Recipe.load(out / "model" / "mergery.yml").digest == evolved.best.digest
        picked[name] = evolved.best.digest
        assert len([*(out / "front").iterdir()]) == len(members)
    assert len({*picked.values()}) == 2
    assert SearchSpec.load(out / "study" / "search.yml").search.preference == {"answers": 1.0, "words": 0.0}


def test_without_items_held_back_the_front_is_that_of_the_search(both, tmp_path):
    for task in both["tasks"].values():
        task["confirm"] = 0
    both["search"]["trials"] = 6
    evolved = evolve(SearchSpec.from_dict(both), tmp_path / "out")
    assert evolved.front.confirmed is None
    assert evolved.report.confirmed is None
    values = sorted(member.trial.values for member in evolved.front.members)
    whole = [one for one in evolved.trials if one.values]
    assert values == sorted({one.values for one in whole if not any(beats(other, one) for other in whole)})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"algorithm": "cma-es"}, r"objectives: cma-es searches for one objective\nfix: .*tpe.*nsga2.*m2n2"),
        ({"racing": True}, r"search\.racing: who is worse in one objective"),
        ({"objectives": False, "preference": {"words": 1}}, r"preference: this search has one objective"),
        ({"preference": {"words": 1}}, r"preference: says nothing of answers"),
        ({"preference": {"words": 1, "answers": 1, "x": 1}}, r"preference\.x: no such task"),
        ({"preference": {"words": 0, "answers": 0}}, r"give weights of 0 or more, at least one above 0"),
        ({"preference": {"words": -1, "answers": 2}}, r"give weights of 0 or more"),
        ({"preference": {"words": "much", "answers": 2}}, r"search\.preference\.words"),
    ],
)
def test_what_cannot_be_is_said_before_a_weight_is_read(both, tmp_path, changes, says):
    both["search"] = {"algorithm": "nsga2", "trials": 4, "objectives": True} | changes
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(RecipeError, match=says):
        evolve(SearchSpec.from_dict(both), tmp_path / "out")
    assert sorted(tmp_path.rglob("*")) == before


def test_too_few_items_to_confirm_a_front_are_refused(both, tmp_path):
    both["tasks"]["words"]["confirm"] = 0.1
    with pytest.raises(DataError, match=r"validation\.jsonl: 2 items are too few to confirm a front"):
        evolve(SearchSpec.from_dict(both), tmp_path / "out")


def test_what_confirming_takes_is_kept_from_the_budget(both):
    """8 finalists on 10 items held back of each task take 160 at most; a trial asks 20."""
    both["search"] = {"algorithm": "nsga2", "budget": 500, "objectives": True}
    assert Search.open(SearchSpec.from_dict(both)).budget.items == 500 - 160
    both["search"]["budget"] = 179
    with pytest.raises(RecipeError, match="179 item evaluations leave none for trials"):
        Search.open(SearchSpec.from_dict(both))


def test_one_task_is_no_choice(both, tmp_path):
    del both["tasks"]["answers"]
    with pytest.raises(RecipeError, match=r"search\.objectives: the only objective would be words"):
        evolve(SearchSpec.from_dict(both), tmp_path / "out")


def test_a_preference_outlives_the_search_file(both):
    both["search"]["preference"] = {"words": 2.0, "answers": 0.5}
    spec = SearchSpec.from_dict(both)
    assert SearchSpec.from_dict(yaml.safe_load(spec.to_yaml())) == spec
