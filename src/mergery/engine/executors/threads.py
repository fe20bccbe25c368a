"""Jobs run by threads of this process, on one device."""

from __future__ import annotations

from mergery.engine.execute import execute
from mergery.engine.executors.api import Work
from mergery.engine.inputs import Inputs
from mergery.engine.machine import merging_threads
from mergery.engine.source import DiskSource

__all__ = ["run_in_threads"]


def run_in_threads(work: Work) -> None:
    """See :class:`~mergery.engine.executors.api.Executor`."""
    threads = work.threads or merging_threads()
    with DiskSource() as source:
        inputs = Inputs(source, device=work.device, threads=threads)
        execute(work.plan, inputs, work.sink, jobs=work.jobs, threads=threads, progress=work.progress)
