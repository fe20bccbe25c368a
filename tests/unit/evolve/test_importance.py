"""What is said to matter, against searches of which it is known."""

from __future__ import annotations

import numpy as np
import pytest

from mergery.evolve import Trial
from mergery.evolve.algorithms import AlgorithmSettings, Outcome, Problem, get_algorithm
from mergery.evolve.importance import draw_sensitivity, importance, judged

WEIGHTS = (8.0, 0.0, 2.0, 0.5, 0.0)
NAMES = tuple("abcde")
DOMAINS = ((-1.0, 3.0),) * 5


def searched(count: int, *, algorithm: str = "random", sign: float = -1.0) -> list[Trial]:
    """Trials of a bowl whose axes are that steep, around 0.3 of each range."""
    run = get_algorithm(algorithm).start(Problem((0.5,) * 5), AlgorithmSettings(seed=4))
    noise, trials = np.random.default_rng(1), []
    for number in range(count):
        (proposal,) = run.ask()
        loss = sum(w * (x - 0.3) ** 2 for w, x in zip(WEIGHTS, proposal.point, strict=True))
        loss += 0.02 * noise.normal()
        run.tell(proposal, Outcome((loss,)))
        genome = tuple(-1 + 4 * x for x in proposal.point)
        trials.append(Trial(number, genome, score=sign * loss, values=(sign * loss,), whole=True))
    return trials


@pytest.mark.parametrize("algorithm", ["random", "cma-es", "ga"])
def test_what_is_steep_matters(algorithm):
    found = importance(NAMES, DOMAINS, searched(60, algorithm=algorithm), "maximize")
    assert next(iter(found)) == "a"
    assert sum(found.values()) == pytest.approx(1)
    assert found["a"] > found["c"] > max(found["b"], found["e"])
    assert list(found.values()) == sorted(found.values(), reverse=True)


def test_shares_are_those_of_the_variance():
    """Of uniform points (x - c)² varies equally along all axes, so only their steepness counts."""
    found = importance(NAMES, DOMAINS, searched(600), "maximize")
    squares = {name: weight**2 for name, weight in zip(NAMES, WEIGHTS, strict=True)}
    expected = {name: square / sum(squares.values()) for name, square in squares.items()}
    assert found == pytest.approx(expected, abs=0.03)


def test_the_direction_does_not_matter_nor_does_a_collapse():
    trials = searched(60)
    same = importance(NAMES, DOMAINS, searched(60, sign=1.0), "minimize")
    assert same == importance(NAMES, DOMAINS, trials, "maximize")
    collapsed = Trial(60, (3.0,) * 5, score=-1e9, whole=True)
    with_it = importance(NAMES, DOMAINS, [*trials, collapsed], "maximize")
    assert list(with_it)[:2] == ["a", "c"]


def test_choices_matter_by_their_levels():
    dice = np.random.default_rng(3)
    trials = []
    for number in range(60):
        method, x = ("linear", "ties", "slerp")[dice.integers(3)], dice.random()
        score = 0.5 * (method == "ties") + 0.02 * x + 0.01 * dice.normal()
        trials.append(Trial(number, (method, x), score=score, whole=True))
    found = importance(("method", "x"), (("linear", "ties", "slerp"), (0.0, 1.0)), trials, "maximize")
    assert found["method"] > 0.95


def test_noise_says_nothing_and_neither_do_few_trials_or_equal_scores():
    dice = np.random.default_rng(0)
    noise = [Trial(at, tuple(dice.random(5)), score=dice.normal(), whole=True) for at in range(40)]
    assert importance(NAMES, DOMAINS, noise, "maximize") == {}
    assert importance(NAMES, DOMAINS, searched(9), "maximize") == {}
    equal = [Trial(at, tuple(dice.random(5)), score=1.0, whole=True) for at in range(40)]
    assert importance(NAMES, DOMAINS, equal, "maximize") == {}


def test_gradients_failures_and_references_are_not_judged():
    trials = searched(30)
    others = [
        Trial(30, (0.0,) * 5, score=9.0, gradient=(1.0,) * 5),
        Trial(31, (0.0,) * 5, failure="no"),
        Trial(32, None, score=9.0, whole=True),
    ]
    assert judged([*trials, *others]) == tuple(trials)
    assert importance(NAMES, DOMAINS, [*trials, *others], "maximize") == importance(
        NAMES, DOMAINS, trials, "maximize"
    )


@pytest.mark.parametrize("count", [0, 1, 40])
def test_the_picture_is_the_same_every_time(tmp_path, count):
    names = tuple(f"models[{at}].weight" for at in range(20))
    trials = [
        Trial(trial.number, trial.genome * 4, score=trial.score, whole=bool(trial.number % 3))
        for trial in searched(count)
    ]
    shares = importance(names, DOMAINS * 4, trials, "maximize")
    for name in ("one.png", "two.png"):
        draw_sensitivity(tmp_path / name, names, trials, shares, direction="maximize", metric="m")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.png", "two.png"]
