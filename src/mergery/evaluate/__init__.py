"""Score a model on task items: likelihood of the answers, exact match.

Nothing here imports torch before a model is scored.
"""

from mergery.evaluate.api import (
    Direction,
    Evaluator,
    Metric,
    Scorer,
    Scores,
    SoftScorer,
    evaluate,
    evaluator_names,
    get_evaluator,
    register_evaluator,
)
from mergery.evaluate.items import Item, Items, disjoint, load_items

__all__ = [
    "Direction",
    "Evaluator",
    "Item",
    "Items",
    "Metric",
    "Scorer",
    "Scores",
    "SoftScorer",
    "disjoint",
    "evaluate",
    "evaluator_names",
    "get_evaluator",
    "load_items",
    "register_evaluator",
]
