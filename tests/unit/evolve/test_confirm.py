"""Finalists on fresh items: who is asked what, who wins, and that nothing is claimed that is only luck."""

from __future__ import annotations

import numpy as np
import pytest

from mergery.errors import RecipeError
from mergery.evaluate.intervals import bootstrap_mean, wilson
from mergery.evolve.confirm import Finalist, confirm, confirm_cost
from mergery.evolve.tasks import CONFIRM_RUNGS
from unit.evolve.formulas import Formula, bowl, candidate, exam, examiner

WEIGHTS = [(round(0.1 * number, 1), 0.7, 0.7) for number in range(9)]


def finalists(count: int, searched: float = 0.0) -> list[Finalist]:
    losses = np.full(30, searched, np.float32)
    return [Finalist(10 + number, candidate(*WEIGHTS[number]), losses) for number in range(count)]


def counted(formula: Formula) -> dict[float, int]:
    """How many items every finalist was asked, by its first weight."""
    digests = [digest for digest, _ in formula.asked]
    found = {weights[0]: digests.count(candidate(*weights).recipe.digest) for weights in WEIGHTS}
    return {weight: count for weight, count in found.items() if count}


def quality(recipe, item):
    """The same for all items: who is best is not in doubt."""
    return bowl(recipe, item) * 0 - abs(recipe.slices[0].sources[0].parameters["weight"] - 0.4)


def test_half_leave_at_each_rung_and_one_is_asked_all():
    formula = Formula(quality)
    confirmed = confirm(finalists(8), examiner(exam(formula, count=40, shares=(0.25, 0.5, 1.0))))
    # the fourth is best; 0.3 and 0.5 are as good as each other, then 0.2 and 0.6
    assert counted(formula) == {
        weight: {0.4: 40, 0.5: 20, 0.3: 20, 0.2: 20}.get(weight, 10) for weight, _, _ in WEIGHTS[:8]
    }
    assert [finalist.number - 10 for finalist in confirmed.finalists] == [4, 3, 5, 2, 6, 1, 7, 0]
    assert confirmed.winner == 14
    assert confirmed.cost == len(formula.asked) == 8 * 10 + 4 * 10 + 20
    assert (confirmed.claim.estimate, confirmed.claim.low, confirmed.claim.high) == (0, 0, 0)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 9])
@pytest.mark.parametrize("items", [1, 2, 3, 7, 40])
@pytest.mark.parametrize("shares", [CONFIRM_RUNGS, (1.0,), (0.5, 1.0), (0.1, 0.2, 0.4, 0.7, 1.0)])
def test_the_cost_is_known_beforehand(count, items, shares):
    formula = Formula()
    asked = exam(formula, count=items, shares=shares)
    confirmed = confirm(finalists(count), examiner(asked))
    assert confirmed.cost == len(formula.asked) == confirm_cost(count, asked.ends)
    assert len(dict.fromkeys(formula.asked)) == len(formula.asked)
    assert len(confirmed.finalists) == count
    assert confirmed.winner == confirmed.finalists[0].number
    assert len(confirmed.finalists[0].confirmed) == items


def test_old_items_count_too():
    """One was much better on many old items; the other is a little better on few fresh ones."""
    some = finalists(2)
    losses = [np.full(30, loss, np.float32) for loss in (0, 1)]
    old = [Finalist(one.number, one.candidate, loss) for one, loss in zip(some, losses, strict=True)]
    formula = Formula(quality)
    assert confirm(some, examiner(exam(formula, count=12, shares=CONFIRM_RUNGS))).winner == 11
    assert confirm(old, examiner(exam(formula, count=12, shares=CONFIRM_RUNGS))).winner == 10


def test_of_equals_the_earliest_wins():
    same = Formula(lambda recipe, item: 1.0)
    confirmed = confirm(finalists(5)[::-1], examiner(exam(same, shares=CONFIRM_RUNGS)))
    assert [finalist.number for finalist in confirmed.finalists] == [10, 11, 12, 13, 14]


def test_asked_again_it_is_free():
    formula = Formula()
    inquiry = examiner(exam(formula, shares=CONFIRM_RUNGS))
    first = confirm(finalists(8), inquiry)
    count = len(formula.asked)
    second = confirm(finalists(8), inquiry)
    assert len(formula.asked) == count
    assert (first.winner, first.claim, first.cost) == (second.winner, second.claim, second.cost)


def test_who_gives_no_answer_is_no_finalist():
    broken: list[str] = []

    def outcome(recipe, item):
        best = recipe.slices[0].sources[0].parameters["weight"] == 0.4
        return np.nan if best and item.hash in broken else quality(recipe, item)

    asked = exam(Formula(outcome), count=40, shares=CONFIRM_RUNGS)
    for place in (0, 15, 39):  # at each of the three rungs
        broken[:] = [sorted(asked.sections[0].items.hashes)[place]]
        confirmed = confirm(finalists(8), examiner(asked))
        assert confirmed.winner == 13
        assert 14 not in [finalist.number for finalist in confirmed.finalists]
    with pytest.raises(RecipeError, match="not finite"):
        confirm(finalists(8)[4:5], examiner(asked))


def test_the_claim_is_of_the_items_after_the_last_choice():
    formula = Formula()
    asked = exam(formula, count=40, shares=CONFIRM_RUNGS)
    confirmed = confirm(finalists(8), examiner(asked))
    outcomes = -confirmed.finalists[0].confirmed[20:]
    assert confirmed.claim == bootstrap_mean(outcomes)
    assert confirmed.claim.estimate == pytest.approx(outcomes.mean(), rel=1e-6)
    # one finalist is not chosen, so all its items count
    alone = confirm(finalists(1), examiner(asked))
    assert alone.claim == bootstrap_mean(-alone.finalists[0].confirmed)
    right = Formula(lambda recipe, item: float(bowl(recipe, item) > -1.2), proportion=True)
    confirmed = confirm(finalists(8), examiner(exam(right, count=40, shares=CONFIRM_RUNGS)))
    hits = round(-confirmed.finalists[0].confirmed[20:].sum())
    assert 0 < hits < 20
    assert confirmed.claim == wilson(hits, 20)


def test_lower_may_be_better():
    up = confirm(finalists(8), examiner(exam(Formula(), count=40, shares=CONFIRM_RUNGS)))
    lower = Formula(lambda recipe, item: -bowl(recipe, item), direction="minimize")
    down = confirm(finalists(8), examiner(exam(lower, count=40, shares=CONFIRM_RUNGS)))
    assert down.winner == up.winner
    assert down.claim.estimate == pytest.approx(-up.claim.estimate)
    assert down.claim.low < down.claim.estimate < down.claim.high


class Drawn:
    """Answers drawn beforehand, in place of an examiner."""

    def __init__(self, asked, table):
        self.exam, self._table = asked, table

    def examine(self, which, hope):
        from mergery.evolve.examiner import Examined

        for end in self.exam.ends:
            outcomes = self._table[which][:end]
            if not hope(-outcomes):
                break
        return Examined(outcomes, outcomes)


@pytest.mark.parametrize(("tried", "spread"), [(8, 0.0), (60, 0.0), (60, 0.02)])
def test_nothing_is_claimed_that_is_only_luck(tried, spread):
    """The best 8 of many candidates on 90 items, then 100 fresh ones; the truth is known."""
    generator = np.random.default_rng(5)
    asked = exam(Formula(proportion=True), count=100, shares=CONFIRM_RUNGS)
    claims, naive, searched, covered = [], [], [], []
    for _ in range(4000):
        truth = 0.6 + spread * generator.standard_normal(tried)
        hard = generator.random(190)  # an item is as hard for all, to a degree
        own = generator.random((tried, 190))
        answers = (np.where(generator.random(own.shape) < 0.4, hard, own) < truth[:, None]).astype(np.float32)
        best = np.argsort(-answers[:, :90].mean(1), kind="stable")[:8].tolist()
        found = confirm(
            [Finalist(number, number, -answers[number, :90]) for number in best],
            Drawn(asked, answers[:, 90:]),
        )
        right = truth[found.winner]
        claims.append(found.claim.estimate - right)
        naive.append(answers[found.winner, 90:].mean() - right)
        searched.append(answers[best[0], :90].mean() - truth[best[0]])
        covered.append(found.claim.low <= right <= found.claim.high)
    assert np.mean(searched) > 0.05
    assert np.mean(naive) > 0.02 - 0.5 * spread
    # sampling leaves 0.1 points of doubt
    assert abs(np.mean(claims)) < 0.003
    assert np.mean(covered) > 0.93
