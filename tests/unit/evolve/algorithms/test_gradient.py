from __future__ import annotations

import numpy as np
import pytest

from mergery.evolve.algorithms import AlgorithmSettings, Outcome, Problem, Proposal, get_algorithm
from mergery.evolve.algorithms.gradient import RATE, STEPS, Descent

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


def test_the_first_steps_are_adams():
    """Written out from the paper's algorithm 1; the first step has the rate's length."""
    descent = Descent((0.5, 0.5, 0.5, 0.5))
    points = []
    for batch in range(3):
        proposal = descent.propose(batch)
        points.append(np.array(proposal.point))
        descent.tell(proposal, Outcome((0.0,), gradient=slope(proposal.point)))
    mean, square, x = np.zeros(4), np.zeros(4), np.full(4, 0.5)
    for step in (1, 2):
        gradient = np.array(slope(x))
        mean = 0.8 * mean + 0.2 * gradient
        square = 0.95 * square + 0.05 * gradient**2
        x = x - RATE * (mean / (1 - 0.8**step)) / np.sqrt(square / (1 - 0.95**step))
        np.testing.assert_allclose(points[step], x, rtol=1e-9)
    assert np.abs(points[1] - points[0]) == pytest.approx(RATE)


def test_it_reaches_the_bottom_in_few_judgements():
    problem = Problem((0.5,) * 4, known=(("uniform", (0.1, 0.9, 0.9, 0.1)),), gradients=True)
    run = get_algorithm("gradient").start(problem, AlgorithmSettings())
    judged = []
    while len(judged) < 25:
        (proposal,) = run.ask()
        tell(run, proposal)
        if proposal.batch is None:
            judged.append(loss(proposal.point))
    assert min(judged) < 0.003


def test_a_judgement_is_of_the_mean_of_the_last_iterates():
    descent = Descent((0.5, 0.5, 0.5, 0.5))
    for batch in range(STEPS):
        proposal = descent.propose(batch)
        assert proposal.batch == batch
        descent.tell(proposal, Outcome((0.0,), gradient=slope(proposal.point)))
    judged = descent.propose(STEPS)
    assert judged.batch is None
    assert all(0.5 - STEPS * RATE < value < 0.5 + STEPS * RATE for value in judged.point)


def test_a_descent_that_cannot_go_on_ends():
    for gradient in (None, (0.0,) * 4):
        descent = Descent((0.5,) * 4)
        proposal = descent.propose(0)
        descent.tell(proposal, Outcome((float("inf"),), gradient=gradient))
        assert descent.ended


def test_it_goes_on_while_only_the_smooth_loss_falls():
    """No answer is right yet, but the right ones become more likely."""
    descent = Descent((0.5,) * 4)
    for judgement in range(12):
        for batch in range(STEPS):
            descent.tell(descent.propose(batch), Outcome((0.0,), gradient=(1.0, 0.0, 0.0, 0.0)))
        descent.tell(descent.propose(0), Outcome((0.0,), np.zeros(4, np.float32), smooth=-0.01 * judgement))
        assert not descent.ended
    for _ in range(3):
        for batch in range(STEPS):
            descent.tell(descent.propose(batch), Outcome((0.0,), gradient=(1.0, 0.0, 0.0, 0.0)))
        descent.tell(descent.propose(0), Outcome((0.0,), np.zeros(4, np.float32), smooth=0.0))
    assert descent.ended


def test_of_two_descents_the_better_goes_on():
    known = (("far", (0.0, 1.0, 0.0, 0.0)), ("near", (0.65, 0.25, 0.4, 0.55)))
    problem = Problem((0.9, 0.9, 0.9, 0.9), known=known, gradients=True)
    run = get_algorithm("gradient").start(problem, AlgorithmSettings(seed=1))
    points = []
    for _ in range(60):
        (proposal,) = run.ask()
        tell(run, proposal)
        points.append(proposal)
    # five points to begin with, and two judgements of both after six gradients each
    alone = points[5 + 2 * 2 * (STEPS + 1) :][:STEPS]
    late = [np.array(proposal.point) for proposal in alone]
    assert all(np.abs(point - CENTRE).max() < 0.3 for point in late)


def test_the_same_proposal_asked_by_two_is_told_to_each():
    run = get_algorithm("gradient").start(Problem((0.5, 0.5), gradients=True), AlgorithmSettings())
    asked = [proposal for _ in range(8) for proposal in run.ask(2)]
    assert all(isinstance(proposal, Proposal) for proposal in asked)
    for proposal in asked:
        run.tell(proposal, Outcome((0.1,), np.zeros(3, np.float32), gradient=(0.1, 0.2)))
