"""How the loops are compiled."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar, cast

from numba import njit
from numpy.typing import NDArray

__all__ = ["BLOCK", "Array", "compiled"]

F = TypeVar("F", bound=Callable[..., Any])
Array: TypeAlias = NDArray[Any]

BLOCK = 1024
"""Elements that are worked on at a time, so that they stay in the first-level cache."""


def compiled(function: F) -> F:
    """Compile without the interpreter's lock; the machine code is kept on disk between processes."""
    return cast("F", njit(nogil=True, cache=True, error_model="numpy")(function))
