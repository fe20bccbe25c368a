"""How the loops are compiled, and their machine code found again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, cast

from numba import njit
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.core.runtime.nrt import rtsys
from numpy.typing import NDArray

__all__ = ["BLOCK", "Array", "compiled"]

F = TypeVar("F", bound=Callable[..., Any])
Array: TypeAlias = NDArray[Any]

BLOCK = 4096
"""Elements that are worked on at a time: few, to stay in the caches, and not so few that calls cost more."""


def compiled(function: F) -> F:
    """Compile without the interpreter's lock; the machine code is kept on disk between processes."""
    dispatcher: Any = njit(nogil=True, error_model="numpy")(function)
    dispatcher._cache = _Cache(function)  # where numba keeps its own: it has no setting for it
    return cast("F", dispatcher)


class _Cache(FunctionCache):
    """numba's cache of machine code, quicker to load, and never older than any of the loops.

    numba's own prepares the compiler before it looks for code, which takes its time in each
    process, and looks at the file of the function alone, not at those of the functions that it calls.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)  # type: ignore[no-untyped-call]
        self._cache_file = IndexDataCacheFile(  # type: ignore[no-untyped-call]
            cache_path=self._cache_path, filename_base=self._impl.filename_base, source_stamp=_SOURCES
        )

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Machine code for these types, or None."""
        rtsys.initialize(target_context)  # what machine code needs; compiling prepares the rest by itself
        with self._guard_against_spurious_io_errors():
            return self._load_overload(sig, target_context)  # type: ignore[no-untyped-call]


def _digest(folder: Path) -> str:
    """Of all sources in a folder."""
    found = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()


_SOURCES = _digest(Path(__file__).parent)
