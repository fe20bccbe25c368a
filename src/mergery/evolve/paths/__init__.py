"""Path space: which layers of which models run in which order, and how much each adds."""

from typing import TYPE_CHECKING

from mergery.evolve.paths.export import path_recipe
from mergery.evolve.paths.path import Hop, Path

if TYPE_CHECKING:
    from mergery.evolve.paths.runtime import LivePaths

__all__ = ["Hop", "LivePaths", "Path", "path_recipe"]


def __getattr__(name: str) -> object:
    """Load what needs torch only when it is asked for."""
    if name == "LivePaths":
        from mergery.evolve.paths.runtime import LivePaths

        return LivePaths
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
