"""Directories that appear whole or not at all."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mergery.errors import OutputError

__all__ = ["check_free", "staged_directory"]


def check_free(out: Path, size: int = 0) -> None:
    """Make sure that ``out`` can be made, before any work is done for it.

    Args:
        out: the directory to be; it may exist if it is empty.
        size: bytes that will be written.

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
    free = shutil.disk_usage(parent).free
    if free < size:
        raise OutputError(
            f"{out}: {size / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB are free",
            fix="make room on the disk",
        )


@contextmanager
def staged_directory(out: Path) -> Iterator[Path]:
    """A directory to fill, which takes the name ``out`` when all went well.

    What an interrupted run left under the staging name is there again for the next one. So it is after a
    full disk and after Ctrl-C; after any other error it vanishes.

    Raises:
        OutputError: if another process is writing to the same place.
    """
    staging = out.absolute().parent / f".{out.name}.partial"
    staging.mkdir(parents=True, exist_ok=True)
    with _locked(staging, out):
        try:
            yield staging
            for file in staging.iterdir():
                _sync(file)
            _sync(staging)
            _take_name(staging, out)
            _sync(staging.parent)
        except (OutputError, KeyboardInterrupt):
            raise
        except BaseException:
            shutil.rmtree(staging, ignore_errors=True)
            raise


def _take_name(staging: Path, out: Path) -> None:
    try:
        staging.rename(out.absolute())
    except OSError as problem:
        shutil.rmtree(staging, ignore_errors=True)
        raise OutputError(
            f"{out}: something else has been written there meanwhile", fix="choose another directory"
        ) from problem


@contextmanager
def _locked(directory: Path, out: Path) -> Iterator[None]:
    """Lock a directory; the system frees it when the process ends, however it ends."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError as problem:
        raise OutputError(f"{out}: another merge is writing there", fix="wait for it to end") from problem
    finally:
        os.close(descriptor)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
