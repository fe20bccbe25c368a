"""Directories that appear whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mergery.errors import DeviceError, OutputError, WorkerError

__all__ = ["check_free", "staged_directory", "writing"]

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_DISK_ERRORS = (*_FULL, errno.EIO, errno.EROFS)


def check_free(out: Path, size: int = 0) -> None:
    """Make sure that ``out`` can be made, before any work is done for it.

    Args:
        out: the directory to be; it may exist if it is empty.
        size: bytes that will be written, those included that an interrupted run has written.

    Raises:
        OutputError: if it holds something, its parent cannot be written, or the disk is too full.
    """
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise OutputError(f"{out}: it exists and is not a directory", fix="choose another directory")
    if out.exists() and any(out.iterdir()):
        raise OutputError(f"{out}: it already holds something", fix="choose another directory, or empty it")
    parent = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not os.access(parent, os.W_OK):
        raise OutputError(f"{parent}: no permission to write there", fix="choose another directory")
    free = shutil.disk_usage(parent).free + _occupied(_staging(out))
    if free < size:
        raise OutputError(
            f"{out}: {size / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB are free",
            fix="make room on the disk",
        )


@contextmanager
def staged_directory(out: Path, *, scaffold: str | None = None) -> Iterator[Path]:
    """A directory to fill, which takes the name ``out`` when all went well.

    What an interrupted run left under the staging name is there again for the next one. So it is after a
    full disk, after the loss of a worker or a device and after Ctrl-C; after any other error it vanishes.

    Args:
        out: the directory to be.
        scaffold: a file in it that is needed only until it is whole, and is removed at the last moment.

    Raises:
        OutputError: if another process is writing to the same place, or the disk is full.
    """
    staging = _staging(out)
    with _disk_errors(out), _locked(staging, out):
        try:
            check_free(out)
            yield staging
            for file in sorted(staging.iterdir()):
                _sync(file)
            _sync(staging)
            if scaffold:
                (staging / scaffold).unlink(missing_ok=True)
            _take_name(staging, out)
            _sync(out)
            _sync(staging.parent)
        except BaseException as problem:
            if _can_go_on(problem):
                with suppress(OSError):
                    staging.rmdir()  # unless there is something to go on with
            else:
                shutil.rmtree(staging, ignore_errors=True)
            raise


@contextmanager
def writing(file: Path) -> Iterator[None]:
    """Turn what the system says while a file is written into an error that names the file.

    Raises:
        OutputError: for every ``OSError``.
    """
    try:
        yield
    except OSError as problem:
        raise _refused(file.name, problem) from problem


def _staging(out: Path) -> Path:
    place = out.absolute()
    return place.parent / f".{place.name}.partial"


def _can_go_on(problem: BaseException) -> bool:
    """Whether the same command, run again, may end well and can use what is there."""
    if isinstance(problem, OSError):
        return problem.errno in _DISK_ERRORS
    return isinstance(problem, OutputError | WorkerError | DeviceError | KeyboardInterrupt)


def _take_name(staging: Path, out: Path) -> None:
    try:
        staging.rename(out.absolute())
    except OSError as problem:
        shutil.rmtree(staging, ignore_errors=True)
        raise OutputError(
            f"{out}: something else has been written there meanwhile", fix="choose another directory"
        ) from problem


@contextmanager
def _disk_errors(out: Path) -> Iterator[None]:
    """The same for files that are written by others; what is not the disk's doing stays as it is."""
    try:
        yield
    except OSError as problem:
        if problem.errno not in _DISK_ERRORS:
            raise
        place = problem.filename2 or problem.filename  # a copy's target, where it is a copy
        raise _refused(Path(place).name if place else str(out), problem) from problem


def _refused(where: str, problem: OSError) -> OutputError:
    return OutputError(
        f"{where}: cannot be written: {problem.strerror}",
        fix="make room on the disk and run the same command again: finished shards are kept"
        if problem.errno in _FULL
        else "check the disk and its permissions, and run the same command again",
    )


@contextmanager
def _locked(directory: Path, out: Path) -> Iterator[None]:
    """Make and lock a directory; the system frees it when the process ends, however it ends."""
    descriptor = _lock(directory, out)
    while not _is_open_at(descriptor, directory):  # taken away between the two steps
        os.close(descriptor)
        descriptor = _lock(directory, out)
    try:
        yield
    finally:
        os.close(descriptor)


def _lock(directory: Path, out: Path) -> int:
    descriptor = _made(directory)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as problem:
        os.close(descriptor)
        raise OutputError(f"{out}: another merge is writing there", fix="wait for it to end") from problem
    return descriptor


def _made(directory: Path) -> int:
    while True:
        directory.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # another merge has just given it its name
            return os.open(directory, os.O_RDONLY)


def _is_open_at(descriptor: int, directory: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), directory.stat())
    except FileNotFoundError:
        return False


def _occupied(directory: Path) -> int:
    """Bytes that a directory's files take on the disk."""
    size = 0
    with suppress(OSError):  # another process may be taking them away
        for file in directory.rglob("*"):
            size += file.lstat().st_blocks * 512
    return size


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
