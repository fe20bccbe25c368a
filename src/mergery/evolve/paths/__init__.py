"""Path space: which layers of which models run in which order, and how much each adds."""

from typing import TYPE_CHECKING

from mergery.evolve.paths.encoding import AlignedEncoding, Encoding, PaperEncoding
from mergery.evolve.paths.export import PathRecipes, path_recipe
from mergery.evolve.paths.path import Hop, Path
from mergery.evolve.paths.space import PathSpace

if TYPE_CHECKING:
    from mergery.evolve.paths.runtime import LivePaths

__all__ = [
    "AlignedEncoding",
    "Encoding",
    "Hop",
    "LivePaths",
    "PaperEncoding",
    "Path",
    "PathRecipes",
    "PathSpace",
    "path_recipe",
]


def __getattr__(name: str) -> object:
    """Load what needs torch only when it is asked for."""
    if name == "LivePaths":
        from mergery.evolve.paths.runtime import LivePaths

        return LivePaths
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
