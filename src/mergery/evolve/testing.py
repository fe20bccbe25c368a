"""The promises of a search algorithm, for the tests of ours and of anybody's.

::

    @pytest.mark.parametrize("promise", ALGORITHM_PROMISES, ids=lambda promise: promise.__name__)
    def test_promise(promise):
        promise(get_algorithm("my-algorithm"))
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from mergery.evolve.algorithms.api import (
    Algorithm,
    AlgorithmKind,
    AlgorithmSettings,
    Outcome,
    Point,
    Problem,
    Proposal,
)

__all__ = [
    "ALGORITHM_PROMISES",
    "asking_in_vain_changes_nothing",
    "asks_inside_the_cube",
    "continues_by_replay",
    "follows_its_seed",
    "gives_plain_floats",
    "keeps_several_workers_busy",
    "learns_from_losses_only",
    "minds_no_failures",
    "minds_no_ties",
    "searches_one_dimension",
    "takes_outcomes_in_any_order",
    "tries_every_choice",
]

_ROUNDS = 60


def asks_inside_the_cube(kind: AlgorithmKind) -> None:
    """Every coordinate lies in [0, 1], also when the start is a corner and the first steps are long."""
    for start in ((0.5, 0.5, 0.5), (0.0, 1.0, 0.0)):
        for proposal, _ in _run(kind, start, sigma=1.0):
            assert len(proposal.point) == len(start)
            assert all(0.0 <= value <= 1.0 for value in proposal.point)


def gives_plain_floats(kind: AlgorithmKind) -> None:
    """Points are tuples of Python floats, so that they can be compared, hashed and written."""
    (proposal,) = _begin(kind, (0.5, 0.5)).ask()
    assert type(proposal.point) is tuple
    assert all(type(value) is float for value in proposal.point)


def follows_its_seed(kind: AlgorithmKind) -> None:
    """The same seed asks for the same points; another seed for others."""
    assert _points(kind, seed=3) == _points(kind, seed=3)
    assert _points(kind, seed=3) != _points(kind, seed=4)


def continues_by_replay(kind: AlgorithmKind) -> None:
    """Asked again and told the recorded outcomes, a fresh run goes on exactly as the first."""
    whole = _run(kind, (0.3, 0.6, 0.9))
    for cut in (1, 7, 30, _ROUNDS - 1):
        run = _begin(kind, (0.3, 0.6, 0.9))
        for proposal, outcome in whole[:cut]:
            assert list(run.ask()) == [proposal]
            run.tell(proposal, outcome)
        for proposal, outcome in whole[cut:]:
            assert list(run.ask()) == [proposal]
            run.tell(proposal, outcome)


def minds_no_failures(kind: AlgorithmKind) -> None:
    """Infinite losses, some or all, leave points finite and inside the cube."""
    for every in (1, 3):
        run = _begin(kind, (0.5, 0.5))
        for number in range(_ROUNDS):
            (proposal,) = run.ask()
            assert all(0.0 <= value <= 1.0 for value in proposal.point)
            run.tell(proposal, Outcome((math.inf,)) if number % every == 0 else told(proposal, bowl))


def minds_no_ties(kind: AlgorithmKind) -> None:
    """A plateau, where all losses are equal, is searched for as long as there are trials."""
    run = _begin(kind, (0.5, 0.5))
    asked: list[Point] = []
    for _ in range(2 * _ROUNDS):
        (proposal,) = run.ask()
        asked.append(proposal.point)
        run.tell(proposal, told(proposal, lambda _: 0.0))
    assert all(0.0 <= value <= 1.0 for point in asked for value in point)
    assert len(dict.fromkeys(asked[-_ROUNDS:])) > _ROUNDS // 2


def learns_from_losses_only(kind: AlgorithmKind) -> None:
    """On a bowl the best of many points beats the start."""
    start = (0.9, 0.1, 0.9)
    assert min(outcome.loss for _, outcome in _run(kind, start, rounds=2 * _ROUNDS)) < bowl(start)


def searches_one_dimension(kind: AlgorithmKind) -> None:
    """One knob is a search, too."""
    assert min(outcome.loss for _, outcome in _run(kind, (0.9,))) < bowl((0.9,))


def takes_outcomes_in_any_order(kind: AlgorithmKind) -> None:
    """Several proposals at once, told backwards: nothing breaks, and the best is still better."""
    run, losses = _begin(kind, (0.9, 0.9)), []
    for _ in range(_ROUNDS // 4):
        asked = list(run.ask(4))
        assert 1 <= len(asked) <= 4
        for proposal in reversed(asked):
            losses.append(bowl(proposal.point))
            run.tell(proposal, told(proposal, bowl))
    assert min(losses) < bowl((0.9, 0.9))


def keeps_several_workers_busy(kind: AlgorithmKind) -> None:
    """With three proposals always out, a fourth is there whenever one of them is told."""
    run = _begin(kind, (0.5, 0.5, 0.5))
    out = list(run.ask(4))
    waits = 0
    for number in range(_ROUNDS):
        proposal = out.pop(number % len(out))
        run.tell(proposal, told(proposal, bowl))
        fresh = list(run.ask(1, tuple(out)))
        waits += not fresh
        out += fresh
        if not out:
            out = list(run.ask(4))
    assert waits <= _ROUNDS // 10


def asking_in_vain_changes_nothing(kind: AlgorithmKind) -> None:
    """A free worker asks again and again, and only what it got is on record: the replay asks for no more."""
    run, replayed = (_begin(kind, (0.5, 0.5, 0.5)) for _ in range(2))
    out: list[Proposal] = []
    for _ in range(_ROUNDS):
        for _ in range(3 if len(out) < 2 * _ROUNDS // 3 else 0):
            fresh = list(run.ask(1, tuple(out)))
            if fresh:
                assert list(replayed.ask(1, tuple(out))) == fresh
            out += fresh
        proposal = out.pop(0)
        for one in (run, replayed):
            one.tell(proposal, told(proposal, bowl))


def tries_every_choice(kind: AlgorithmKind) -> None:
    """A dimension of three values has each of them tried."""
    problem = Problem((0.5, 0.5), choices=(3, 0), gradients=True)
    run, seen = kind.start(problem, AlgorithmSettings()), dict.fromkeys(range(3), 0)
    for _ in range(_ROUNDS):
        (proposal,) = run.ask()
        seen[min(2, int(3 * proposal.point[0]))] += 1
        run.tell(proposal, told(proposal, lambda point: bowl((point[1],))))
    assert all(seen.values())


def bowl(point: Point) -> float:
    """Squared distance to (0.4, 0.4, …)."""
    return sum((value - 0.4) ** 2 for value in point)


def told(proposal: Proposal, loss: Callable[[Point], float]) -> Outcome:
    """The outcome of a proposal whose four items all have the same loss."""
    value = loss(proposal.point)
    gradient = None
    if proposal.batch is not None:
        step = 1e-6
        nudged = [
            loss(tuple(x + step * (place == other) for other, x in enumerate(proposal.point)))
            for place in range(len(proposal.point))
        ]
        gradient = tuple((other - value) / step for other in nudged)
    return Outcome((value,), np.full(4, value, dtype=np.float32), smooth=value, gradient=gradient)


def _begin(kind: AlgorithmKind, start: Point, *, seed: int = 0, sigma: float | None = None) -> Algorithm:
    chosen = sigma if "sigma" in kind.settings else None
    return kind.start(Problem(start, gradients=True), AlgorithmSettings(seed=seed, sigma=chosen))


def _points(kind: AlgorithmKind, *, seed: int) -> list[Point]:
    return [proposal.point for proposal, _ in _run(kind, (0.3, 0.6), seed=seed)]


def _run(
    kind: AlgorithmKind,
    start: Point,
    *,
    seed: int = 0,
    sigma: float | None = None,
    rounds: int = _ROUNDS,
) -> list[tuple[Proposal, Outcome]]:
    """Proposals and their outcomes on the bowl."""
    run = _begin(kind, start, seed=seed, sigma=sigma)
    history = []
    for _ in range(rounds):
        (proposal,) = run.ask()
        outcome = told(proposal, bowl)
        run.tell(proposal, outcome)
        history.append((proposal, outcome))
    return history


ALGORITHM_PROMISES: tuple[Callable[[AlgorithmKind], None], ...] = (
    asks_inside_the_cube,
    gives_plain_floats,
    follows_its_seed,
    continues_by_replay,
    minds_no_failures,
    minds_no_ties,
    learns_from_losses_only,
    searches_one_dimension,
    takes_outcomes_in_any_order,
    keeps_several_workers_busy,
    asking_in_vain_changes_nothing,
    tries_every_choice,
)
