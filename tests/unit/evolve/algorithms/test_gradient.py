from __future__ import annotations

import numpy as np
import pytest

from mergery.evolve.algorithms import AlgorithmSettings, Outcome, Problem, Proposal, get_algorithm
from mergery.evolve.algorithms.gradient import AVERAGED, DAMPING, RATE, STEPS, Descent

CENTRE = np.array([0.7, 0.2, 0.4, 0.6])


def loss(point):
    return float(((np.array(point) - CENTRE) ** 2 * [1.0, 4.0, 0.1, 9.0]).sum())


def slope(point):
    return tuple((2 * (np.array(point) - CENTRE) * [1.0, 4.0, 0.1, 9.0]).tolist())


def tell(run, proposal, value=loss):
    if proposal.batch is None:
        run.tell(proposal, Outcome((value(proposal.point),), np.full(4, value(proposal.point), np.float32)))
    else:
        run.tell(proposal, Outcome((loss(proposal.point),), gradient=slope(proposal.point)))


def test_the_first_steps_are_adams_with_damped_sizes():
    """Written out from the paper's algorithm 1."""
    descent = Descent((0.5, 0.5, 0.5, 0.5))
    points = []
    for _ in range(3):
        proposal = descent.propose()
        points.append(np.array(proposal.point))
        descent.tell(proposal, Outcome((0.0,), gradient=slope(proposal.point)))
    mean, square, x = np.zeros(4), np.zeros(4), np.full(4, 0.5)
    for step in (1, 2):
        gradient = np.array(slope(x))
        mean = 0.8 * mean + 0.2 * gradient
        square = 0.95 * square + 0.05 * gradient**2
        size = np.sqrt((square + DAMPING * square.mean()) / (1 - 0.95**step))
        x = x - RATE * (mean / (1 - 0.8**step)) / size
        np.testing.assert_allclose(points[step], x, rtol=1e-9)
    # the first step would have the rate's length for every knob; those that matter little go less far
    lengths = np.abs(points[1] - points[0])
    assert lengths.argsort().tolist() == np.abs(slope(points[0])).argsort().tolist()
    assert lengths.max() == pytest.approx(RATE, rel=0.1)


def test_it_reaches_the_bottom_in_few_judgements():
    problem = Problem((0.5,) * 4, known=(("uniform", (0.1, 0.9, 0.9, 0.1)),), gradients=True)
    run = get_algorithm("gradient").start(problem, AlgorithmSettings())
    judged = []
    while len(judged) < 9:
        (proposal,) = run.ask()
        tell(run, proposal)
        if proposal.batch is None:
            judged.append(loss(proposal.point))
    assert min(judged) < 0.003


def test_a_judgement_is_of_the_mean_of_the_last_iterates():
    descent = Descent((0.5, 0.5, 0.5, 0.5))
    points = []
    for batch in range(STEPS + 1):
        proposal = descent.propose()
        if batch < STEPS:
            assert proposal.batch == batch
            descent.tell(proposal, Outcome((0.0,), gradient=slope(proposal.point)))
            points.append(proposal.point)
    assert proposal.batch is None
    descent.tell(proposal, Outcome((0.0,), np.zeros(4, np.float32)))
    points.append(descent.propose().point)  # where the last step led
    assert proposal.point == pytest.approx(np.mean(points[-AVERAGED:], axis=0).tolist())


def test_a_descent_that_cannot_go_on_ends():
    for gradient in (None, (0.0,) * 4):
        descent = Descent((0.5,) * 4)
        proposal = descent.propose()
        descent.tell(proposal, Outcome((float("inf"),), gradient=gradient))
        assert descent.ended


def test_it_goes_on_while_only_the_smooth_loss_falls():
    """No answer is right yet, but the right ones become more likely."""
    descent = Descent((0.5,) * 4)
    for judgement in range(12):
        for _ in range(STEPS):
            descent.tell(descent.propose(), Outcome((0.0,), gradient=(1.0, 0.0, 0.0, 0.0)))
        descent.tell(descent.propose(), Outcome((0.0,), np.zeros(4, np.float32), smooth=-0.01 * judgement))
        assert not descent.ended
    for _ in range(2):
        for _ in range(STEPS):
            descent.tell(descent.propose(), Outcome((0.0,), gradient=(1.0, 0.0, 0.0, 0.0)))
        descent.tell(descent.propose(), Outcome((0.0,), np.zeros(4, np.float32), smooth=0.0))
    assert descent.ended


def test_other_plain_merges_follow_the_first_round():
    known = (("far", (0.0, 1.0, 0.0, 0.0)), ("near", (0.65, 0.25, 0.4, 0.55)))
    problem = Problem((0.9, 0.9, 0.9, 0.9), known=known, gradients=True)
    run = get_algorithm("gradient").start(problem, AlgorithmSettings(seed=1))
    asked = []
    for _ in range(8 * (STEPS + 1)):
        (proposal,) = run.ask()
        tell(run, proposal)
        asked.append(proposal)
    plain = [at for at, entry in enumerate(asked) if entry.batch is None and "judged" not in entry.origin]
    # the first one, a round of steps from there, the others
    assert plain == [0, *range(STEPS + 2, STEPS + 6)]
    assert [asked[at].origin for at in plain] == ["known: far", "known: near", "start", "random", "random"]


def test_while_a_descent_waits_plain_merges_are_asked():
    problem = Problem((0.9,) * 4, known=(("far", (0.0, 1.0, 0.0, 0.0)),), gradients=True)
    run = get_algorithm("gradient").start(problem, AlgorithmSettings())
    first, second = run.ask(2)
    assert (first.origin, second.origin) == ("known: far", "start")
    tell(run, first)
    step, third = run.ask(2)
    assert (step.origin, step.point, third.origin) == ("gradient", (0.0, 1.0, 0.0, 0.0), "random")


def rounds_of(run, count, value=loss):
    """Rounds of descents, each with its steps and its judgement; plain merges are told, too."""
    descended = []
    while len(descended) < count * (STEPS + 1):
        (proposal,) = run.ask()
        tell(run, proposal, value)
        if proposal.origin.startswith("gradient"):
            descended.append(proposal)
    rounds = [descended[at : at + STEPS + 1] for at in range(0, len(descended), STEPS + 1)]
    assert all([entry.batch is None for entry in asked] == [False] * STEPS + [True] for asked in rounds)
    return rounds


def test_the_best_descent_goes_on_while_it_gains():
    known = (("far", (0.0, 1.0, 0.0, 0.0)), ("near", (0.65, 0.25, 0.4, 0.55)))
    problem = Problem((0.9, 0.9, 0.9, 0.9), known=known, gradients=True)
    run = get_algorithm("gradient").start(problem, AlgorithmSettings(seed=1))
    rounds = rounds_of(run, 9, value=lambda point: round(loss(point), 2))
    assert rounds[0][0].point == known[0][1]
    found = [round(loss(asked[-1].point), 2) for asked in rounds]
    going = next(at for at in range(1, 9) if not found[at] < found[at - 1])
    assert going >= 2
    for at in range(1, going + 1):
        # it begins where the round before it ended, on the next batches: no step is further than the rate
        gap = np.abs(np.array(rounds[at][0].point) - rounds[at - 1][-2].point).max()
        assert gap < 2 * RATE
        assert rounds[at][0].batch == at * STEPS
    # then another begins, at the best point, on the same batches from the first on
    assert rounds[going + 1][0].point == known[1][1]
    assert rounds[going + 1][0].batch == 0


def test_new_descents_begin_while_none_gains():
    known = tuple((f"at {share}", (share,) * 4) for share in (0.1, 0.3, 0.5, 0.7))
    problem = Problem((0.9,) * 4, known=known, gradients=True)
    orders = []
    for seed in range(4):
        run = get_algorithm("gradient").start(problem, AlgorithmSettings(seed=seed))
        rounds = rounds_of(run, 7, value=lambda point: 0.5 + 1e-9 * abs(point[0] - 0.3))
        # a new one has one round; only the best, no better in its second, has a third after three others
        assert [asked[0].batch // STEPS for asked in rounds] == [0, 1, 0, 0, 0, 0, 2]
        begun = [asked[0].point for asked in rounds if asked[0].batch == 0]
        assert len(dict.fromkeys(begun)) == 5
        assert begun[:2] == [known[0][1], known[1][1]]  # the best of those left
        orders.append(begun[2])
    assert len(dict.fromkeys(orders)) > 1  # then any


def test_the_same_proposal_asked_by_two_is_told_to_each():
    run = get_algorithm("gradient").start(Problem((0.5, 0.5), gradients=True), AlgorithmSettings())
    asked = [proposal for _ in range(8) for proposal in run.ask(2)]
    assert all(isinstance(proposal, Proposal) for proposal in asked)
    for proposal in asked:
        run.tell(proposal, Outcome((0.1,), np.zeros(3, np.float32), gradient=(0.1, 0.2)))
