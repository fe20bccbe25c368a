"""Search algorithms behind ``ask`` and ``tell``. See :mod:`mergery.evolve.algorithms.api`."""

from mergery.evolve.algorithms.api import (
    Algorithm,
    AlgorithmKind,
    AlgorithmSettings,
    Outcome,
    Point,
    Problem,
    Proposal,
    algorithm_names,
    get_algorithm,
    register_algorithm,
)

__all__ = [
    "Algorithm",
    "AlgorithmKind",
    "AlgorithmSettings",
    "Outcome",
    "Point",
    "Problem",
    "Proposal",
    "algorithm_names",
    "get_algorithm",
    "register_algorithm",
]
