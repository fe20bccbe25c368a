"""What the machine has."""

from __future__ import annotations

import os

__all__ = ["available_threads", "merging_threads"]


def available_threads() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def merging_threads() -> int:
    """Tensors merged at a time, where nobody says how many: one waits for the disk, the others compute."""
    return available_threads() + 1
