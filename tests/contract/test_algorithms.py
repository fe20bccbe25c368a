"""Every registered search algorithm keeps every promise."""

from __future__ import annotations

import pytest

from mergery.evolve.algorithms import AlgorithmSettings, Outcome, Problem, algorithm_names, get_algorithm
from mergery.evolve.testing import ALGORITHM_PROMISES, bowl, told


@pytest.mark.parametrize("name", algorithm_names())
@pytest.mark.parametrize("promise", ALGORITHM_PROMISES, ids=lambda promise: promise.__name__)
def test_promise(name, promise):
    promise(get_algorithm(name))


def test_cma_es_finds_the_bottom_of_a_bowl_and_random_search_does_not():
    losses = {}
    for name in ("cma-es", "random"):
        run = get_algorithm(name).start(Problem((0.9,) * 6), AlgorithmSettings(seed=1))
        best = float("inf")
        for _ in range(500):
            (proposal,) = run.ask()
            run.tell(proposal, told(proposal, bowl))
            best = min(best, bowl(proposal.point))
        losses[name] = best
    assert losses["cma-es"] < 1e-4 < 1e-3 < losses["random"]


def test_cma_es_takes_the_papers_population():
    # 4 + floor(3 ln 6) = 9 points a generation: until they are told, nothing moves
    settings = AlgorithmSettings(seed=5)
    one, other = (get_algorithm("cma-es").start(Problem((0.5,) * 6), settings) for _ in range(2))
    for number in range(9):
        (proposal,) = one.ask()
        assert other.ask() == [proposal]
        one.tell(proposal, Outcome((float(number),)))
        other.tell(proposal, Outcome((-float(number),)))
    assert one.ask() != other.ask()


def test_cma_es_obeys_its_population():
    one, other = (
        get_algorithm("cma-es").start(Problem((0.5,) * 6), AlgorithmSettings(seed=5, population=5))
        for _ in range(2)
    )
    for number in range(5):
        (proposal,) = one.ask()
        assert other.ask() == [proposal]
        one.tell(proposal, Outcome((float(number),)))
        other.tell(proposal, Outcome((-float(number),)))
    assert one.ask() != other.ask()


def test_cma_es_that_has_converged_begins_again_elsewhere():
    run = get_algorithm("cma-es").start(Problem((0.5, 0.5)), AlgorithmSettings(seed=2))
    far = []
    for number in range(3000):
        (proposal,) = run.ask()
        run.tell(proposal, told(proposal, bowl))
        if bowl(proposal.point) > 0.01:
            far.append(number)
    # the first run closes in within some hundred points; without a second, nothing far is tried again
    assert sum(number > 1000 for number in far) > 20
