"""What is said of a search's result, against figures worked out by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from mergery.evaluate.intervals import Interval
from mergery.evolve.confirm import Confirmed, Finalist
from mergery.evolve.report import Contestant, Report
from mergery.evolve.trial import Trial
from unit.evolve.formulas import Formula, candidate, exam

ITEMS = 100


def answers(right: int, *, shift: int = 0) -> np.ndarray:
    """So many right answers of 100, the first ones or later."""
    return np.roll((np.arange(ITEMS) < right).astype(np.float32), shift)


def contestant(name: str, role: str, right: int, shift: int = 0) -> Contestant:
    return Contestant(name, role, answers(right), answers(right, shift=shift))


TRIALS = (
    Trial(0, None, "reference: ties", told=0, score=0.5, values=(0.5,), items=100, whole=True, cost=100),
    Trial(1, (1.0,), "cma-es", told=1, score=0.3, values=(0.3,), items=10, cost=10, build_seconds=2.0),
    Trial(2, (2.0,), "cma-es", told=2, failure="why", cost=10, score_seconds=3.0, overhead_seconds=0.5),
)


def report(best: int, *others: Contestant, confirmed: Confirmed | None = None, **formula) -> Report:
    formula = Formula(proportion=True, **formula)
    asked = exam(formula, count=ITEMS)
    others = others or (contestant("zoo/one", "parent", 50), contestant("uniform average", "plain", 40))
    return Report(contestant("best", "best", best), others, 0.9, confirmed, TRIALS, asked, asked)


def test_a_gain_is_called_so():
    found = report(80)
    assert found.gained
    assert found.rival.name == "zoo/one"
    # 30 of 100 items differ, all for the better
    gain = found.difference(found.rival)
    assert gain.estimate == pytest.approx(0.3)
    error = 1.96 * math.sqrt(0.3 * 0.7 / 100)
    assert (gain.low, gain.high) == (
        pytest.approx(0.3 - error, abs=0.015),
        pytest.approx(0.3 + error, abs=0.015),
    )
    assert found.verdict.startswith("better than parent zoo/one by +0.3000 [+0.2")


@pytest.mark.parametrize(("best", "shift"), [(50, 0), (55, 45), (45, 0), (50, 50)])
def test_no_gain_is_called_so(best, shift):
    one = contestant("zoo/one", "parent", 50, shift)
    found = report(best, one, contestant("zoo/two", "parent", 20))
    assert not found.gained
    assert found.verdict.startswith(f"no gain over parent zoo/one: {(best - 50) / 100:+.4f} [")


def test_an_equal_model_is_no_gain():
    """Whatever is best of the others is compared, here a merge that needs no search."""
    plain = contestant("task arithmetic, tuned to 0.4", "plain", 80)
    found = report(80, contestant("zoo/one", "parent", 50), plain)
    assert found.verdict == (
        "no gain over task arithmetic, tuned to 0.4: +0.0000 [+0.0000, +0.0000] on the test items "
        "(95 % interval)"
    )


def test_lower_may_be_better():
    found = report(20, direction="minimize")
    assert found.rival.name == "uniform average"
    assert found.gained
    assert found.verdict.startswith("better than uniform average by -0.2000 [-0.2")
    assert not report(60, direction="minimize").gained


def test_a_proportion_has_wilsons_interval():
    found = report(80).interval(contestant("x", "parent", 80))
    # (p + z²/2n ± z sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n)
    z, p, n = 1.959963984540054, 0.8, 100
    centre, spread = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    expected = (p, (centre - spread) / (1 + z * z / n), (centre + spread) / (1 + z * z / n))
    assert (found.estimate, found.low, found.high) == pytest.approx(expected)


def test_what_is_claimed_and_what_is_true():
    plain = report(80)
    assert plain.claimed == plain.searched == 0.9
    data = plain.to_dict()
    assert data["best"]["claimed_validation"] == 0.9
    assert data["best"]["claimed_minus_test"] == pytest.approx(0.1)
    assert "confirmed" not in data["best"]
    losses = np.zeros(25, np.float32)
    confirmed = Confirmed(0, Interval(0.78, 0.6, 0.9), (Finalist(0, candidate(1, 1, 1), losses, losses),), 60)
    found = report(80, confirmed=confirmed)
    assert (found.searched, found.claimed) == (0.9, 0.78)
    data = json.loads(json.dumps(found.to_dict()))
    assert data["best"]["confirmed"] == {"score": 0.78, "low": 0.6, "high": 0.9}
    assert data["best"]["claimed_minus_test"] == pytest.approx(-0.02)
    assert data["items"] == {"validation": 100, "test": 100, "confirm": 25}
    assert data["item_evaluations"] == {"searching": 120, "confirming": 60}


def test_trials_and_times_are_counted():
    data = report(80).to_dict()
    assert (data["trials"], data["failed_trials"], data["given_up_trials"]) == (3, 1, 1)
    assert data["seconds"] == {"building": 2.0, "scoring": 3.0, "overhead": 0.5}
    assert (data["metric"], data["direction"]) == ("formula", "maximize")
    assert [(other["name"], other["role"]) for other in data["others"]] == [
        ("zoo/one", "parent"),
        ("uniform average", "plain"),
    ]
    assert [other["best_minus_this_test"]["score"] for other in data["others"]] == pytest.approx([0.3, 0.4])


def test_several_tasks_are_told_apart():
    asked = exam(Formula(name="a"), Formula(name="b", direction="minimize"), count=10)
    both = np.where(asked.section_of == 0, 0.75, 0.25).astype(np.float32)
    best = Contestant("best", "best", both, both)
    parent = Contestant("zoo/one", "parent", both * 0, both * 0)
    data = Report(best, (parent,), 0.25, None, TRIALS, asked, asked).to_dict()
    assert data["best"]["test_by_task"] == {"task 0": 0.75, "task 1": 0.25}
    # (0.75 - 0.25) / 2, lower being better in the second
    assert data["best"]["test"]["score"] == pytest.approx(0.25)
    assert data["metric"] == "a, b"
    assert data["verdict"].startswith("better than parent zoo/one by +0.2500")


def test_it_is_written_whole(tmp_path):
    found = report(80)
    found.save(tmp_path / "report.json")
    assert json.loads((tmp_path / "report.json").read_text()) == json.loads(json.dumps(found.to_dict()))
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]
