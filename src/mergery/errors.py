"""Every mistake a user can make, as one tree.

::

    MergeryError                 base of all; message and fix
    ├── RecipeError              a recipe or a search file says something wrong
    │   └── RecipeErrors         it says several things wrong, found in one go
    ├── CheckpointError          a model directory cannot be read or does not fit the others
    ├── OutputError              the place to write to cannot be used
    ├── DataError                task items cannot be used
    ├── DeviceError              the device to compute on is not there
    ├── WorkerError              a process that did a part of the work has ended before its end
    ├── StudyError               a search's record cannot be continued
    ├── ZooError                 the tiny experts cannot be built or opened
    └── MissingExtraError        an optional package is needed and not installed

A message says where, what is wrong and what it got; the fix stands on a line of its own::

    models[0].parameters.densty: unknown parameter of ties
    fix: did you mean density?

The command line prints a ``MergeryError`` without a traceback and exits with 2; any other exception is
a defect of ours and exits with 1.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence

__all__ = [
    "CheckpointError",
    "DataError",
    "DeviceError",
    "MergeryError",
    "MissingExtraError",
    "OutputError",
    "RecipeError",
    "RecipeErrors",
    "StudyError",
    "WorkerError",
    "ZooError",
    "near_miss",
]


class MergeryError(Exception):
    """A mistake that the user can mend.

    Attributes:
        message: where it is, what is wrong, what was found there.
        fix: what to do about it.
    """

    def __init__(self, message: str, *, fix: str) -> None:
        super().__init__(f"{message}\nfix: {fix}")
        self.message = message
        self.fix = fix

    def __reduce__(self) -> tuple[object, ...]:
        """What brings the error from a worker's process into the one that waits for it."""
        return _restored, (type(self), self.args, self.__dict__)


class RecipeError(MergeryError):
    """A recipe or a search file says something wrong."""


class RecipeErrors(RecipeError):  # noqa: N818 - several of them
    """All that one recipe says wrong; ``message`` and ``fix`` are those of the first mistake.

    Attributes:
        mistakes: each of them.
    """

    def __init__(self, mistakes: Sequence[RecipeError]) -> None:
        super().__init__(mistakes[0].message, fix=mistakes[0].fix)
        self.mistakes = tuple(mistakes)

    def __str__(self) -> str:
        """Every message with its fix."""
        return "\n".join(map(str, self.mistakes))


class CheckpointError(MergeryError):
    """A model directory cannot be read, or does not fit the others."""


class OutputError(MergeryError):
    """The place to write to cannot be used."""


class DataError(MergeryError):
    """Task items cannot be used."""


class DeviceError(MergeryError):
    """The device to compute on is not there."""


class WorkerError(MergeryError):
    """A process that did a part of the work has ended before its end."""


class StudyError(MergeryError):
    """A search's record cannot be continued."""


class ZooError(MergeryError):
    """The tiny experts cannot be built or opened."""


class MissingExtraError(MergeryError):
    """An optional package is needed and not installed."""


def _restored(
    kind: type[MergeryError], arguments: tuple[object, ...], state: Mapping[str, object]
) -> MergeryError:
    error = kind.__new__(kind, *arguments)
    error.__dict__.update(state)
    return error


def near_miss(wrong: str, known: Iterable[str]) -> str:
    """Say what was probably meant, for the ``fix`` line.

    Args:
        wrong: the name that is not known.
        known: the names that are.

    Returns:
        ``did you mean density?`` where one name is near, otherwise the names that exist.
    """
    names = sorted(known)
    close = difflib.get_close_matches(wrong, names, n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else f"use one of: {', '.join(names)}"
