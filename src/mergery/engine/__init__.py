"""From a recipe to a plan, from a plan to tensors, from tensors to a directory or a live model."""

from typing import TYPE_CHECKING

from mergery.engine.merge import Merged, merge
from mergery.engine.plan import Job, Plan, make_plan

if TYPE_CHECKING:
    from mergery.engine.live import LiveMerge

__all__ = ["Job", "LiveMerge", "Merged", "Plan", "make_plan", "merge"]


def __getattr__(name: str) -> object:
    """Load what needs torch only when it is asked for."""
    if name == "LiveMerge":
        from mergery.engine.live import LiveMerge

        return LiveMerge
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
