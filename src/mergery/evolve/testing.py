"""The promises of a search algorithm, for the tests of ours and of anybody's.

::

    @pytest.mark.parametrize("promise", ALGORITHM_PROMISES, ids=lambda promise: promise.__name__)
    def test_promise(promise):
        promise(get_algorithm("my-algorithm"))
"""

from __future__ import annotations

import math
from collections.abc import Callable

from mergery.evolve.algorithms.api import Algorithm, AlgorithmKind, AlgorithmSettings, Point

__all__ = [
    "ALGORITHM_PROMISES",
    "asks_inside_the_cube",
    "continues_by_replay",
    "follows_its_seed",
    "gives_plain_floats",
    "learns_from_losses_only",
    "minds_no_failures",
    "minds_no_ties",
    "searches_one_dimension",
]

_ROUNDS = 60


def asks_inside_the_cube(kind: AlgorithmKind) -> None:
    """Every coordinate lies in [0, 1], also when the start is a corner and the first steps are long."""
    for start in ((0.5, 0.5, 0.5), (0.0, 1.0, 0.0)):
        for point, _ in _run(kind, start, sigma=1.0):
            assert len(point) == len(start)
            assert all(0.0 <= value <= 1.0 for value in point)


def gives_plain_floats(kind: AlgorithmKind) -> None:
    """Points are tuples of Python floats, so that they can be compared, hashed and written."""
    point = _begin(kind, (0.5, 0.5)).ask()
    assert type(point) is tuple
    assert all(type(value) is float for value in point)


def follows_its_seed(kind: AlgorithmKind) -> None:
    """The same seed asks for the same points; another seed for others."""
    assert _run(kind, (0.3, 0.6), seed=3) == _run(kind, (0.3, 0.6), seed=3)
    assert _run(kind, (0.3, 0.6), seed=3) != _run(kind, (0.3, 0.6), seed=4)


def continues_by_replay(kind: AlgorithmKind) -> None:
    """Asked again and told the recorded losses, a fresh run goes on exactly as the first, from any trial."""
    whole = _run(kind, (0.3, 0.6, 0.9))
    for cut in (1, 7, 30, _ROUNDS - 1):
        run = _begin(kind, (0.3, 0.6, 0.9))
        for point, loss in whole[:cut]:
            assert run.ask() == point
            run.tell(point, loss)
        for point, loss in whole[cut:]:
            assert run.ask() == point
            run.tell(point, loss)


def minds_no_failures(kind: AlgorithmKind) -> None:
    """Infinite losses, some or all, leave points finite and inside the cube."""
    for every in (1, 3):
        run = _begin(kind, (0.5, 0.5))
        for number in range(_ROUNDS):
            point = run.ask()
            assert all(0.0 <= value <= 1.0 for value in point)
            run.tell(point, math.inf if number % every == 0 else bowl(point))


def minds_no_ties(kind: AlgorithmKind) -> None:
    """A plateau, where all losses are equal, is searched for as long as there are trials."""
    run = _begin(kind, (0.5, 0.5))
    asked = []
    for _ in range(20 * _ROUNDS):
        asked.append(run.ask())
        run.tell(asked[-1], 0.0)
    assert all(0.0 <= value <= 1.0 for point in asked for value in point)
    assert len(set(asked[-_ROUNDS:])) > _ROUNDS // 2


def learns_from_losses_only(kind: AlgorithmKind) -> None:
    """On a bowl the best of many points beats the start."""
    start = (0.9, 0.1, 0.9)
    assert min(loss for _, loss in _run(kind, start, rounds=4 * _ROUNDS)) < bowl(start)


def searches_one_dimension(kind: AlgorithmKind) -> None:
    """One knob is a search, too."""
    assert min(loss for _, loss in _run(kind, (0.9,))) < bowl((0.9,))


def bowl(point: Point) -> float:
    """Squared distance to (0.4, 0.4, …)."""
    return sum((value - 0.4) ** 2 for value in point)


def _begin(kind: AlgorithmKind, start: Point, *, seed: int = 0, sigma: float | None = None) -> Algorithm:
    chosen = sigma if "sigma" in kind.settings else None
    return kind.start(start, AlgorithmSettings(seed=seed, sigma=chosen))


def _run(
    kind: AlgorithmKind,
    start: Point,
    *,
    seed: int = 0,
    sigma: float | None = None,
    rounds: int = _ROUNDS,
) -> list[tuple[Point, float]]:
    """Points and their losses on the bowl."""
    run = _begin(kind, start, seed=seed, sigma=sigma)
    told = []
    for _ in range(rounds):
        point = run.ask()
        run.tell(point, bowl(point))
        told.append((point, bowl(point)))
    return told


ALGORITHM_PROMISES: tuple[Callable[[AlgorithmKind], None], ...] = (
    asks_inside_the_cube,
    gives_plain_floats,
    follows_its_seed,
    continues_by_replay,
    minds_no_failures,
    minds_no_ties,
    learns_from_losses_only,
    searches_one_dimension,
)
