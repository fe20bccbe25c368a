"""Mergery: breed a better language model out of existing ones, without training.

What most programs need is here, and loaded when it is first used: ``import mergery`` imports no torch.
Searching is in :mod:`mergery.evolve`, scoring in :mod:`mergery.evaluate`, tiny experts in :mod:`mergery.zoo`.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mergery.checkpoint import Checkpoint, ModelRef
    from mergery.engine import LiveMerge, Merged, Plan, make_plan, merge
    from mergery.errors import MergeryError
    from mergery.methods import merge_method
    from mergery.recipe import Recipe
    from mergery.zoo import Zoo

__all__ = [
    "Checkpoint",
    "LiveMerge",
    "Merged",
    "MergeryError",
    "ModelRef",
    "Plan",
    "Recipe",
    "Zoo",
    "make_plan",
    "merge",
    "merge_method",
]

_HOMES = {
    "Checkpoint": "checkpoint",
    "LiveMerge": "engine",
    "Merged": "engine",
    "MergeryError": "errors",
    "ModelRef": "checkpoint",
    "Plan": "engine",
    "Recipe": "recipe",
    "Zoo": "zoo",
    "make_plan": "engine",
    "merge": "engine",
    "merge_method": "methods",
}


def __getattr__(name: str) -> object:
    """Import a public name from its home."""
    if name in _HOMES:
        return getattr(import_module(f"mergery.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'mergery' has no attribute {name!r}")


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
