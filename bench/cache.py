"""The system's page cache: put files into it, take them out, and see that it was done."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

__all__ = ["drop", "resident", "warm", "weights"]

BLOCK = 8 << 20
ATTEMPTS = 10  # some machines take back at once what they think nobody needs


def weights(folder: Path) -> list[Path]:
    """The weight files of a model, links resolved."""
    return sorted(file.resolve() for file in folder.glob("*.safetensors"))


def resident(path: Path) -> float:
    """The share of a file's pages that are in memory."""
    size = path.stat().st_size
    pages = -(-size // mmap.PAGESIZE)
    flags = np.zeros(pages, dtype=np.uint8)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
        start = np.frombuffer(view, dtype=np.uint8)
        libc = ctypes.CDLL(None, use_errno=True)
        address = ctypes.c_void_p(start.ctypes.data)
        if libc.mincore(address, ctypes.c_size_t(size), flags.ctypes.data_as(ctypes.c_void_p)):
            raise OSError(ctypes.get_errno(), f"mincore: {path}")
        del start
    return float((flags & 1).mean())


def warm(paths: Iterable[Path]) -> None:
    """Read whatever is not in memory yet.

    Raises:
        RuntimeError: if a file does not stay there: there is too little memory for a warm cache.
    """
    files = list(dict.fromkeys(paths))
    for _ in range(ATTEMPTS):
        for path in files:
            if resident(path) < 1.0:
                with path.open("rb", buffering=0) as file:
                    while file.read(BLOCK):
                        pass
        gone = [path for path in files if resident(path) < 0.99]
        if not gone:
            return
    raise RuntimeError(f"{gone[0]}: the page cache does not hold it")


def drop(paths: Iterable[Path]) -> None:
    """Take files out of memory.

    Raises:
        RuntimeError: if they stay, as on file systems without a page cache of this kind.
    """
    os.sync()
    for path in dict.fromkeys(paths):
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        left = resident(path)
        if left > 0.001:
            raise RuntimeError(f"{path}: {left:.1%} of it stayed in the page cache")
