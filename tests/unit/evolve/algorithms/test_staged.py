from __future__ import annotations

import numpy as np

from mergery.evolve.algorithms import AlgorithmSettings, Outcome, Problem, get_algorithm
from mergery.evolve.algorithms.staged import View

FINE = np.array([0.62, 0.58, 0.65, 0.55, 0.3, 0.34, 0.26, 0.3])
LEVELS = ((0, 0, 0, 0, 1, 1, 1, 1), (0, 0, 1, 1, 2, 2, 3, 3), tuple(range(8)))


def loss(point):
    return float(((np.array(point) - FINE) ** 2).sum())


def problem(**more):
    known = (("uniform", (0.5,) * 8), ("one alone", (1.0,) * 4 + (0.0,) * 4))
    return Problem((0.9,) * 8, levels=LEVELS, known=known, **more)


def run(trials, *, seed=0, value=loss, **more):
    staged = get_algorithm("staged").start(problem(**more), AlgorithmSettings(seed=seed))
    history = []
    for _ in range(trials):
        (proposal,) = staged.ask()
        found = value(proposal.point)
        gradient = None
        if proposal.batch is not None:
            gradient = tuple((2 * (np.array(proposal.point) - FINE)).tolist())
        staged.tell(proposal, Outcome((found,), np.full(3, found, np.float32), gradient=gradient))
        history.append((proposal, found))
    return history


def test_the_ladder_comes_first():
    origins = [proposal.origin for proposal, _ in run(4)]
    assert origins[:3] == ["ladder: uniform", "ladder: one alone", "ladder: start"]


def test_without_gradients_it_goes_from_coarse_to_fine():
    history = run(260)
    stages = list(dict.fromkeys(proposal.origin for proposal, _ in history))
    assert [stage for stage in stages if ":" not in stage and stage != "random"] == [
        "coarse",
        "finer",
        "polish",
    ]
    for proposal, _ in history:
        if proposal.origin == "coarse":
            assert len(dict.fromkeys(proposal.point[:4])) == len(dict.fromkeys(proposal.point[4:])) == 1
    best = {stage: min(found for p, found in history if p.origin == stage) for stage in ("coarse", "polish")}
    # the best tied point is the means of both halves, worked out by hand
    means = np.repeat([FINE[:4].mean(), FINE[4:].mean()], 4)
    assert best["coarse"] < loss(means) + 0.01
    assert best["polish"] < loss(means)


def test_with_gradients_it_descends_at_once():
    history = run(40, gradients=True)
    first = next(place for place, (proposal, _) in enumerate(history) if proposal.batch is not None)
    assert first <= 6
    assert min(found for proposal, found in history if proposal.batch is None) < 0.002
    assert history[first][0].point == (0.5,) * 8  # from the most neutral point


def test_it_looks_elsewhere_when_nothing_gets_better():
    origins = [proposal.origin for proposal, _ in run(400, value=lambda point: 0.0)]
    rounds = [origin for place, origin in enumerate(origins) if place == 0 or origins[place - 1] != origin]
    assert rounds.count("coarse") >= 2


def test_a_view_is_a_cube_of_its_own():
    view = View.around(LEVELS[1], (0.5, 0.5, 0.9, 0.9, 0.1, 0.1, 0.5, 0.5), ())
    assert view.lift((0.0, 1.0, 0.0, 0.5)) == (0.25, 0.25, 1.0, 1.0, 0.0, 0.0, 0.5, 0.5)
    for point in ((0.2, 0.4, 0.6, 0.8), (0.0, 0.0, 1.0, 1.0)):
        np.testing.assert_allclose(view.drop(view.lift(point)), point, atol=1e-12)
        assert view.holds(view.lift(point))
    assert not view.holds((0.5, 0.6, 0.9, 0.9, 0.1, 0.1, 0.5, 0.5))  # not tied
    assert not view.holds((0.1, 0.1, 0.9, 0.9, 0.1, 0.1, 0.5, 0.5))  # outside


def test_what_was_chosen_stays_at_the_finer_levels():
    view = View.around((0, 1, 2), (0.75, 0.5, 0.5), (2, 0, 0))
    assert view.lift((0.1, 0.0, 1.0)) == (0.75, 0.25, 0.75)
    assert view.problem(Problem((0.75, 0.5, 0.5), choices=(2, 0, 0)), (0.75, 0.5, 0.5)).choices == (0, 0, 0)
