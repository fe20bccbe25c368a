"""How long a merge will take."""

from __future__ import annotations

from mergery.engine.plan import Plan

__all__ = ["expected_seconds"]

# A solid-state disk, reading and writing at the same time; merging itself is faster.
_BYTES_A_SECOND = 1e9


def expected_seconds(plan: Plan) -> float:
    """Seconds that a merge takes where the disk is what it waits for."""
    return (plan.bytes_read + plan.bytes_written) / _BYTES_A_SECOND
