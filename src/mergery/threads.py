"""How many threads torch, and the linear algebra of numpy and scipy, may use, set for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

__all__ = ["one_blas_thread", "sensible_threads", "torch_threads"]

_SMALL_MODEL = 20_000_000
"""Parameters below which a second thread costs more in waiting than it computes."""


def sensible_threads(parameters: int) -> int:
    """CPU threads for one model: one for small ones, torch's own setting for others.

    On models of half a million parameters two threads took two to three times as long as one on a machine
    with other work: each of hundreds of short kernels waits for its slower half.

    Args:
        parameters: how many the model has.
    """
    import torch

    return 1 if parameters < _SMALL_MODEL else torch.get_num_threads()


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Give each tensor operation ``count`` threads, and put the setting back at the end."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Give numpy's and scipy's linear algebra one thread, and put the setting back at the end.

    Matrices of some hundred rows are too small for more: threads that wait for each other took twenty times
    as long on a machine with other work. And sums of one thread come out the same every time.
    """
    with _controller().limit(limits=1, user_api="blas"):
        yield


@cache
def _controller() -> ThreadpoolController:
    """Looks for the libraries in memory once, when those that will be used are there."""
    import numpy as np  # noqa: F401
    import scipy.linalg  # noqa: F401
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
