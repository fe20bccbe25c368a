"""Where a tensor's elements come from: anything that can be read piece by piece."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mergery.stack.kernels import widen

__all__ = ["ArrayRows", "Bits", "Rows", "raw_type"]

Bits = NDArray[Any]
"""Elements as numpy holds them: float32, or uint16 with the bits of a bfloat16."""


class Rows(Protocol):
    """One tensor of one model, flattened.

    Attributes:
        dtype: the safetensors format's name of its type.
        origin: what to call it in an error (file and tensor).
    """

    @property
    def dtype(self) -> str:
        """See above."""
        ...

    @property
    def origin(self) -> str:
        """See above."""
        ...

    def read(self, start: int, out: Bits) -> None:
        """Read ``out.size`` elements from element ``start`` on.

        Args:
            start: the first element.
            out: ``(m,)``: uint16 for the bits themselves, where ``dtype`` is BF16; float32 for any type.
        """
        ...


def raw_type(dtypes: list[str]) -> type[np.generic]:
    """What a stack of these types is read as: the bits where all are bfloat16, else float32."""
    return np.uint16 if all(dtype == "BF16" for dtype in dtypes) else np.float32


class ArrayRows:
    """A tensor in memory.

    Args:
        values: ``(n,)``, float32 or the bits of bfloat16.
        origin: what to call it.
    """

    def __init__(self, values: Bits, origin: str = "tensor") -> None:
        self._values = values
        self.origin = origin

    @property
    def dtype(self) -> str:
        """See :class:`Rows`."""
        return "BF16" if self._values.dtype == np.uint16 else "F32"

    def read(self, start: int, out: Bits) -> None:
        """See :class:`Rows`."""
        part = self._values[start : start + out.size]
        if part.dtype == out.dtype:
            out[:] = part
        else:
            widen(part, out)
