"""Gaussian-process search: its design, its memory, its several objectives."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest

from mergery.evolve.algorithms import AlgorithmSettings, Outcome, Problem, Proposal, get_algorithm
from mergery.evolve.algorithms.gp import GaussianProcess, sampling_errors
from mergery.evolve.algorithms.pareto import hypervolume
from mergery.evolve.testing import bowl, told


def started(problem, seed=0):
    return get_algorithm("gp").start(problem, AlgorithmSettings(seed=seed))


def ask(run, pending=()):
    (proposal,) = run.ask(1, pending)
    return proposal


def search(run, losses, rounds):
    """Proposals and outcomes of a search by one worker; ``losses`` gives a tuple."""
    history = []
    for _ in range(rounds):
        proposal = ask(run)
        outcome = Outcome(tuple(losses(proposal.point)))
        run.tell(proposal, outcome)
        history.append((proposal, outcome))
    return history


def test_it_begins_with_what_is_known_and_the_start_and_spreads_then():
    known = (("uniform", (0.2, 0.2)), ("one alone", (0.9, 0.0)), ("again", (0.2, 0.2)))
    history = search(started(Problem((0.5, 0.5), known=known)), lambda point: (bowl(point),), 8)
    origins = [proposal.origin for proposal, _ in history]
    # 3 known points of the 5 that come before the model, and never fewer than 3 off the ladder
    assert origins == ["ladder: uniform", "ladder: one alone", "start", *["sobol"] * 3, "gp", "gp"]
    assert [proposal.point for proposal, _ in history[:3]] == [(0.2, 0.2), (0.9, 0.0), (0.5, 0.5)]


def test_points_cover_more_of_more_dimensions_before_it_models():
    for dimensions, expected in ((1, 5), (2, 5), (4, 8), (30, 10)):
        history = search(started(Problem((0.5,) * dimensions)), lambda point: (bowl(point),), 12)
        assert [proposal.origin for proposal, _ in history].index("gp") == expected


def test_it_learns_from_what_others_tried():
    run = started(Problem((0.5, 0.5)))
    generator = np.random.default_rng(0)
    for _ in range(20):
        proposal = Proposal(tuple(generator.random(2).tolist()))
        run.tell(proposal, told(proposal, bowl))
    run.tell(Proposal((0.5, 0.5)), Outcome((0.02,)))
    # the start has been tried; three points off what others know; then the model
    history = search(run, lambda point: (bowl(point),), 6)
    assert [proposal.origin for proposal, _ in history] == ["sobol"] * 3 + ["gp"] * 3
    assert min(outcome.loss for _, outcome in history[3:]) < 0.005


def test_a_narrow_bottom_is_found_in_a_few_dozen_trials():
    # closer than 0.04 in each of four dimensions: one in 25 000 by chance
    history = search(started(Problem((0.9,) * 4)), lambda point: (bowl(point),), 40)
    assert min(outcome.loss for _, outcome in history) < 4 * 0.02**2


def test_it_is_continued_with_several_workers():
    def whole(cut):
        run, out, log = started(Problem((0.2, 0.7, 0.4))), [], []
        for number in range(24):
            if number == cut:
                # a fresh run is asked and told the same
                again = started(Problem((0.2, 0.7, 0.4)))
                for kind, what, pending in log:
                    if kind == "ask":
                        assert ask(again, pending) == what
                    else:
                        again.tell(*what)
                run = again
            pending = tuple(out)
            proposal = ask(run, pending)
            log.append(("ask", proposal, pending))
            out.append(proposal)
            if len(out) == 4:
                done = out.pop(number % 4)
                log.append(("tell", (done, told(done, bowl)), ()))
                run.tell(*log[-1][1])
        return [what for kind, what, _ in log if kind == "ask"]

    uncut = whole(None)
    assert whole(5) == uncut
    assert whole(17) == uncut


def test_many_workers_can_ask_before_anything_is_told():
    run = started(Problem((0.5, 0.5)))
    proposals = run.ask(12)
    assert len({proposal.point for proposal in proposals}) == 12
    for proposal in proposals:
        run.tell(proposal, told(proposal, bowl))
    assert ask(run).origin == "gp"


def test_no_point_is_tried_twice():
    history = search(started(Problem((0.3, 0.3))), lambda point: (round(bowl(point), 1),), 50)
    points = np.array([proposal.point for proposal, _ in history])
    distances = np.abs(points[:, None] - points[None]).max(2) + np.eye(50)
    assert distances.min() > 1e-7


def test_a_cliff_does_not_hide_the_ridge():
    # nothing is answered outside a ball; inside, scores rise along a narrow ridge; 400 items a candidate
    items = np.random.default_rng(8)

    def score(point):
        x, y, z = np.array(point) - 0.45
        if x * x + y * y + z * z > 0.09:
            return 0.0
        return 0.3 + 0.4 * math.exp(-((5 * (x - y)) ** 2) - (2 * (x + y - 0.2)) ** 2 - (4 * z) ** 2)

    def losses(point):
        return (1 - items.binomial(400, score(point)) / 400,)

    history = search(started(Problem((0.5, 0.5, 0.5))), losses, 45)
    best = min(history, key=lambda entry: entry[1].loss)[0]
    assert score(best.point) > 0.65


def test_failed_places_are_left():
    # half of the space fails
    def losses(point):
        return (math.inf if point[0] > 0.5 else (point[0] - 0.35) ** 2 + (point[1] - 0.8) ** 2,)

    history = search(started(Problem((0.9, 0.1)), seed=3), losses, 40)
    assert min(outcome.loss for _, outcome in history) < 1e-3
    assert sum(outcome.failed for _, outcome in history[10:]) <= 10


def test_errors_are_those_of_samples_without_replacement():
    generator = np.random.default_rng(0)
    items = (generator.random(400) < 0.4).astype(np.float64)
    means = [generator.permutation(items)[:50].mean() for _ in range(4000)]
    counts = np.array([400.0, 50.0, 0.0, 400.0])
    variances = np.array([items.var(), items.var(), 0.0, items.var()])
    errors = sampling_errors(counts, variances)
    assert errors[[0, 2, 3]].tolist() == [0.0, 0.0, 0.0]
    assert errors[1] == pytest.approx(np.std(means), rel=0.05)


def test_equal_answers_of_few_items_are_not_certainty():
    errors = sampling_errors(np.array([400.0, 3.0]), np.array([0.24, 0.0]))
    assert errors[1] > 0.15


def test_a_candidate_that_was_given_up_early_is_believed_less():
    # one lucky start: three right answers where four hundred say that half are wrong
    generator = np.random.default_rng(2)
    points = [tuple(point) for point in generator.random((12, 1)).tolist()]
    lucky = (0.3,)
    means = []
    for few in (3, 400):
        run = started(Problem((0.5,)))
        for point in [*points, (0.5,), lucky]:
            count = few if point == lucky else 400
            loss = 0.0 if point == lucky else 0.5
            items = np.zeros(count, np.float32)
            items[: round(loss * count)] = 1
            run.tell(Proposal(point), Outcome((loss,), items))
        for _ in range(4):
            run.ask()
        model = run._surrogates[0]
        means.append(model.warp.inverse(model.predict(np.array([lucky]))[0])[0])
    assert means[0] > 0.49
    assert means[1] < 0.46


def test_a_long_search_keeps_the_better_half_and_forgets_no_region():
    from mergery.evolve.algorithms.gp import _KEPT, _kept

    generator = np.random.default_rng(1)
    points, losses = generator.random((900, 2)), generator.random(900)
    kept = _kept(points, losses)
    assert len(kept) == len(np.unique(kept)) == _KEPT
    assert set(np.argsort(losses)[: _KEPT // 2]) <= set(kept)
    for cell in np.ndindex(5, 5):
        assert ((points[kept] * 5).astype(int) == cell).all(1).any()
    assert _kept(points[:50], losses[:50]).tolist() == list(range(50))


def two_losses(point):
    """A convex front between (0.2, 0.5, …) and (0.8, 0.5, …); the other knobs only do harm."""
    rest = sum((value - 0.5) ** 2 for value in point[1:])
    return (point[0] - 0.2) ** 2 + rest, (point[0] - 0.8) ** 2 + rest


def test_it_searches_for_a_front():
    reference = (0.5, 0.5)
    places = np.linspace(0.2, 0.8, 2001)
    whole = hypervolume([two_losses((place, 0.5, 0.5)) for place in places], reference)
    volumes = {}
    for name in ("gp", "random"):
        problem = Problem((0.9, 0.9, 0.9), objectives=2)
        history = search(get_algorithm(name).start(problem, AlgorithmSettings()), two_losses, 40)
        volumes[name] = hypervolume([outcome.losses for _, outcome in history], reference) / whole
    assert volumes["gp"] > 0.96
    assert volumes["gp"] > volumes["random"] + 0.03


def test_it_searches_for_a_front_of_three():
    def losses(point):
        return [sum((x - (place == axis)) ** 2 for axis, x in enumerate(point)) for place in range(3)]

    history = search(started(Problem((0.1, 0.1, 0.1), objectives=3)), losses, 16)
    random = [losses(point) for point in np.random.default_rng(0).random((60, 3))]
    reference = (2.0, 2.0, 2.0)
    assert hypervolume([outcome.losses for _, outcome in history], reference) > hypervolume(random, reference)


def test_a_failure_in_one_of_several_objectives_is_a_failure():
    def losses(point):
        first, second = two_losses(point)
        return (math.inf if point[1] > 0.6 else first, second)

    history = search(started(Problem((0.5, 0.5), objectives=2)), losses, 25)
    assert sum(outcome.failed for _, outcome in history[8:]) <= 6


def test_one_objective_is_the_mean_of_several_losses():
    # a stage of another search may be told losses that it does not look for the front of
    run = started(Problem((0.5, 0.5)))
    history = search(run, lambda point: (bowl(point), 3 * bowl(point)), 15)
    assert min(outcome.loss for _, outcome in history) < bowl((0.5, 0.5))


def test_looking_an_algorithm_up_loads_no_model():
    # it imports scipy, which takes most of a second
    script = (
        "import sys; from mergery.evolve.algorithms import get_algorithm; get_algorithm('gp'); "
        "print('mergery.evolve.algorithms.gaussian' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert said.stdout.split() == ["False"]


def test_it_is_what_the_registry_starts():
    assert isinstance(started(Problem((0.5,))), GaussianProcess)
    assert get_algorithm("gp").several
