"""What candidates are asked, against counting by hand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mergery.evaluate import Items, get_evaluator
from mergery.evaluate.items import Item
from mergery.evolve.exam import Exam, Section


@dataclass(frozen=True)
class Lower:
    """An evaluator whose outcomes are better when they are lower; it is never asked."""

    name: str = "lower"
    direction: str = "minimize"
    proportion: bool = False


def items(name: str, count: int) -> Items:
    return Items(name, tuple(Item(f"{name} {number}", " x", line=number + 1) for number in range(count)))


def section(name: str, count: int, *, weight: float = 1.0, lower: bool = False) -> Section:
    evaluator = Lower() if lower else get_evaluator("exact_match")
    return Section(name, evaluator, items(name, count), weight)


def asked(exam: Exam) -> list[tuple[str, str]]:
    """Task and hash of every item, in the order of asking."""
    order = {}
    for rung in exam.rungs:
        for part in rung:
            for place, item in zip(part.places.tolist(), part.items, strict=True):
                assert place not in order
                order[place] = (exam.sections[exam.section_of[place]].name, item.hash)
    return [order[place] for place in range(len(exam))]


def random_outcomes(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=count).astype(np.float32)


def test_the_order_is_that_of_the_hashes_not_of_the_file():
    whole = items("a", 40)
    evaluator = get_evaluator("exact_match")
    backwards = Items("a", whole.entries[::-1])
    orders = [asked(Exam((Section("a", evaluator, some),))) for some in (whole, backwards)]
    assert orders[0] == orders[1] == [("a", found) for found in sorted(whole.hashes)]
    assert [found for _, found in orders[0]] != list(whole.hashes)


def test_what_is_asked_first_stays_first_when_items_are_added():
    """A hash's rank among the others changes, not who stands before whom."""
    few, many = items("a", 30), items("a", 90)
    first = asked(Exam((Section("a", get_evaluator("exact_match"), few),)))
    more = asked(Exam((Section("a", get_evaluator("exact_match"), many),)))
    known = dict.fromkeys(first)
    assert [entry for entry in more if entry in known] == first


@given(st.lists(st.integers(1, 30), min_size=1, max_size=4))
@settings(max_examples=60, deadline=None)
def test_tasks_alternate(counts):
    exam = Exam(tuple(section(f"t{number}", count) for number, count in enumerate(counts)))
    order = [task for task, _ in asked(exam)]
    for number, count in enumerate(counts):
        assert order.count(f"t{number}") == count
        for end in range(1, len(order) + 1):
            # a task is within half an item of its share of the time, and so are all of them together
            share = count / len(order)
            slack = 0.5 + share * len(counts) / 2
            assert abs(order[:end].count(f"t{number}") - end * share) <= slack
    np.testing.assert_array_equal(exam.section_of, [int(task[1:]) for task in order])


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=3),
    st.lists(st.floats(0.01, 1.0), max_size=5).map(lambda shares: (*sorted(shares), 1.0)),
)
@settings(max_examples=60, deadline=None)
def test_rungs_part_all_items(counts, shares):
    exam = Exam(tuple(section(f"t{n}", count) for n, count in enumerate(counts)), shares)
    total, end = sum(counts), 0
    assert len(exam) == total == exam.ends[-1]
    assert list(exam.ends) == sorted(dict.fromkeys(exam.ends))
    assert all(any(abs(last - share * total) <= 0.5 or last == 1 for share in shares) for last in exam.ends)
    for rung, last in zip(exam.rungs, exam.ends, strict=True):
        places = sorted(place for part in rung for place in part.places.tolist())
        assert places == list(range(end, last))
        assert all(len(part.items) == len(part.places) > 0 for part in rung)
        end = last
    assert asked(exam) == asked(Exam(exam.sections))


@pytest.mark.parametrize("weights", [(1.0, 1.0, 1.0), (2.0, 1.0, 0.5), (0.001, 7.0, 1000.0)])
def test_the_mean_loss_is_the_weighted_mean_of_the_tasks_means(weights):
    counts = (7, 40, 13)
    exam = Exam(tuple(section(f"t{n}", counts[n], weight=weights[n]) for n in range(3)))
    outcomes = random_outcomes(60)
    tasks = np.array([int(task[1:]) for task, _ in asked(exam)])
    means = [outcomes[tasks == n].astype(np.float64).mean() for n in range(3)]
    expected = np.average(means, weights=weights)
    assert exam.means(outcomes) == pytest.approx(means)
    assert exam.score(outcomes) == pytest.approx(expected, rel=1e-6, abs=1e-7)
    assert exam.losses(outcomes).mean(dtype=np.float64) == pytest.approx(-expected, rel=1e-6, abs=1e-7)
    assert exam.values(outcomes) == (exam.score(outcomes),)


def test_one_task_is_its_plain_mean():
    exam = Exam((section("a", 49, weight=3.0),))
    outcomes = (random_outcomes(49) > 0).astype(np.float32)
    assert exam.score(outcomes) == outcomes.sum() / 49
    np.testing.assert_array_equal(exam.losses(outcomes), -outcomes)
    lower = Exam((section("a", 49, lower=True),))
    assert (exam.direction, lower.direction) == ("maximize", "minimize")
    np.testing.assert_array_equal(lower.losses(outcomes), outcomes)
    assert lower.score(outcomes) == exam.score(outcomes)


def test_directions_may_differ():
    """Up is better then; a task whose outcomes are better when lower counts with the other sign."""
    exam = Exam((section("a", 20), section("b", 10, weight=3.0, lower=True)))
    outcomes = random_outcomes(30)
    ours = exam.section_of == 0
    means = outcomes[ours].mean(dtype=np.float64), outcomes[~ours].mean(dtype=np.float64)
    assert exam.direction == "maximize"
    assert exam.score(outcomes) == pytest.approx((means[0] - 3 * means[1]) / 4, abs=1e-7)
    better = outcomes + np.where(ours, 1, -1).astype(np.float32)
    assert (exam.losses(better) < exam.losses(outcomes)).all()
    assert exam.directions == ("maximize",)
    objectives = Exam(exam.sections, objectives=True)
    assert objectives.directions == ("maximize", "minimize")
    assert objectives.values(outcomes) == pytest.approx(means)


def test_a_beginning_is_scored_by_what_was_asked():
    exam = Exam((section("a", 30), section("b", 10)), (0.2, 1.0))
    outcomes = random_outcomes(8)
    losses = exam.losses(outcomes)
    assert len(losses) == 8
    # an item of the first task counts 40 / 2 / 30, one of the second 40 / 2 / 10
    expected = -outcomes * np.where(exam.section_of[:8] == 0, 20 / 30, 2.0)
    np.testing.assert_allclose(losses, expected, rtol=1e-6)
    assert np.isnan(exam.means(random_outcomes(1))[1])


def test_an_answer_that_is_not_finite_is_seen():
    exam = Exam((section("a", 5),))
    assert np.isnan(exam.score(np.array([1, 2, np.nan, 4, 5], np.float32)))


def test_exams_that_differ_have_another_identity():
    usual = (section("a", 5), section("b", 6))
    exams = [
        Exam(usual),
        Exam(usual[::-1]),
        Exam(usual, (0.5, 1.0)),
        Exam(usual, objectives=True),
        Exam((section("a", 5), section("b", 7))),
        Exam((section("a", 5), section("b", 6, weight=2.0))),
        Exam((section("a", 5), section("b", 6, lower=True))),
    ]
    texts = [repr(exam.identity) for exam in exams]
    assert len(dict.fromkeys(texts)) == len(texts)
    assert repr(Exam((section("a", 5), section("b", 6))).identity) == texts[0]


def test_few_items_are_the_first_ones_and_gradients_are_of_all():
    sections = (section("a", 60), section("b", 30, weight=2.0))
    whole, few = Exam(sections), Exam(sections, most=12)
    assert len(few) == 12
    assert asked(few) == asked(whole)[:12]
    outcomes = random_outcomes(12)
    np.testing.assert_array_equal(few.losses(outcomes), whole.losses(outcomes))
    batches = [[item.hash for part in few.batch(number) for item in part.items] for number in range(5)]
    assert sorted(sum(batches[:4], [])) == sorted(item for _, item in asked(whole))  # noqa: RUF017
    assert batches[4] == batches[0]
    assert len(Exam(sections, most=1000)) == 90
    assert repr(few.identity) != repr(whole.identity)


def test_tasks_of_one_evaluator_are_asked_together():
    """Few large batches take less time than many small ones."""
    exam = Exam((section("a", 20), section("b", 10, lower=True), section("c", 20)), (0.5, 1.0))
    for rung in exam.rungs:
        assert [part.evaluator.name for part in rung] == ["exact_match", "lower"]
        tasks = [[exam.section_of[place] for place in part.places] for part in rung]
        assert set(tasks[0]) == {0, 2}
        assert set(tasks[1]) == {1}
        assert all(list(part.places) == sorted(part.places) for part in rung)
