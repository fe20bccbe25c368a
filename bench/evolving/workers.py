"""How busy asynchronous workers are: :mod:`bench.search.asynchrony`, with its default settings."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

from bench.search import asynchrony

LEAST = 0.9


def keep_busy(slots: int) -> Iterator[tuple[str, dict[str, float]]]:
    """One study of each algorithm.

    Args:
        slots: workers at a time.

    Yields:
        The algorithm; shares of the workers' time, 0 to 1, and seconds of each trial beside it.
    """
    arguments = asynchrony.parse(["--slots", str(slots)])
    for algorithm in arguments.algorithm:
        free, bound = asynchrony.usages(algorithm, slots, arguments)
        yield algorithm, {**asdict(free), "generations": bound.whole, "trials": arguments.trials * slots}
