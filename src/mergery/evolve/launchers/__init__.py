"""Where trials run. See :mod:`mergery.evolve.launchers.api`."""

from mergery.evolve.launchers.api import Finished, Job, Launcher
from mergery.evolve.launchers.inline import InlineLauncher

__all__ = ["Finished", "InlineLauncher", "Job", "Launcher"]
