"""One timed merge: the caches as they are to be, the command, the output away."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from bench import cache, models, peer
from bench.measure import Measured, measure
from bench.rows import row_of, write_recipe

__all__ = ["MIB", "compile_once", "files", "floor", "ours", "theirs", "timed"]

MIB = 2**20
HERE = Path(__file__).resolve().parent


def ours(recipe: Path, out: Path) -> list[str]:
    """Mergery, as a user would run it."""
    return [sys.executable, "-m", "mergery", "merge", str(recipe), str(out), "--quiet"]


def theirs(recipe: Path, out: Path, *options: str) -> list[str]:
    """mergekit-yaml."""
    return peer.command(recipe, out, *options)


def floor(inputs: Sequence[Path], out: Path, *, durable: bool = False) -> list[str]:
    """Reading the inputs and writing as much as the last one holds."""
    options = ["--fsync"] if durable else []
    return [sys.executable, str(HERE / "floor.py"), *options, str(out), *map(str, files(inputs))]


def files(folders: Sequence[Path]) -> list[Path]:
    """All weight files, in order; those of linked models once."""
    return list(dict.fromkeys(file for folder in folders for file in cache.weights(folder)))


def timed(
    command: Sequence[str],
    inputs: Sequence[Path],
    out: Path,
    *,
    cold: bool = False,
    limit_s: float | None = None,
    keep: bool = False,
) -> tuple[Measured, float]:
    """Run a command that reads model directories and writes ``out``; its figures, and the load before it.

    What earlier runs wrote is on the disk, or deleted, before the clock starts. With a cold cache the inputs
    are read and then taken out of memory, so that whatever caches lie below it (a controller's, a host's)
    are in the same state for everyone.
    """
    remove(out)
    cache.warm(files(inputs))
    if cold:
        cache.drop(files(inputs))
    os.sync()
    load = os.getloadavg()[0]
    measured = measure(command, env=peer.ENVIRONMENT, limit_s=limit_s)
    if not keep:
        remove(out)
    return measured, load


def compile_once(name: str, work: Path) -> None:
    """One merge of tiny models that is not counted: the first of its kind compiles loops, and keeps them."""
    made = models.make(work, "tiny", 2)
    recipe = write_recipe(work / "recipes" / "tiny", name, row_of(name), made, 2)
    timed(ours(recipe, work / "out"), [], work / "out")


def remove(out: Path) -> None:
    """Delete a file or a folder, if it is there."""
    if out.is_dir():
        shutil.rmtree(out)
    else:
        out.unlink(missing_ok=True)
