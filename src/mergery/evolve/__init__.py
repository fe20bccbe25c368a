"""Search for the recipe that merges best: spaces, algorithms, the durable study.

Nothing here imports torch or Optuna before a search runs.
"""

from mergery.evolve.knobs import Knob
from mergery.evolve.run import Evolved, evolve
from mergery.evolve.search import SearchSettings, SearchSpec, TaskSpec
from mergery.evolve.soup import greedy_soup
from mergery.evolve.space import Genome, SearchSpace
from mergery.evolve.trial import Progress, Trial

__all__ = [
    "Evolved",
    "Genome",
    "Knob",
    "Progress",
    "SearchSettings",
    "SearchSpace",
    "SearchSpec",
    "TaskSpec",
    "Trial",
    "evolve",
    "greedy_soup",
]
