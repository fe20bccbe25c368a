"""Processes that end with the one that began them, however that one ends."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading
from multiprocessing.connection import Connection, wait

__all__ = ["put_on"]

_PR_SET_PDEATHSIG = 1


def put_on(collar: Connection) -> None:
    """What a worker does first: it leaves Ctrl-C to its parent, and does not outlive it.

    Args:
        collar: the reading end of a pipe of which the parent holds the other; to let that go ends the worker.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":  # ends it at once, even amid a computation that lets no other thread run
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))
    threading.Thread(target=_end_with_leash, args=[collar], daemon=True).start()


def _end_with_leash(collar: Connection) -> None:
    """End at once when the parent lets go, or is no more: its end of the pipe closes with it."""
    wait([collar])
    os._exit(1)
