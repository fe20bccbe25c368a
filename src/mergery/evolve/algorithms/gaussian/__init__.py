"""Gaussian processes for search: the model, what a trial is hoped to gain, and where that is most.

A strategy of its own needs two of them::

    surrogate = Surrogate(choices)
    surrogate.fit(points, losses, errors)
    point = propose([surrogate], generator, box=(low, high))
"""

from mergery.evolve.algorithms.gaussian.acquisition import (
    Acquisition,
    ExpectedHypervolume,
    ExpectedImprovement,
)
from mergery.evolve.algorithms.gaussian.model import Belief, Surrogate
from mergery.evolve.algorithms.gaussian.propose import maximise, propose
from mergery.evolve.algorithms.gaussian.spread import spread
from mergery.evolve.algorithms.gaussian.warp import Warp

__all__ = [
    "Acquisition",
    "Belief",
    "ExpectedHypervolume",
    "ExpectedImprovement",
    "Surrogate",
    "Warp",
    "maximise",
    "propose",
    "spread",
]
