"""A page of results: what was run, on which machine, with which versions, and the figures."""

from __future__ import annotations

import os
import platform
import shlex
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median

RESULTS = Path(__file__).resolve().parent / "results"
PACKAGES = ("mergery", "torch", "transformers", "numpy", "numba", "cmaes", "optuna")


def machine() -> str:
    """Processor, cores, memory and system, in one line."""
    text = Path("/proc/cpuinfo").read_text()
    model = next(
        (line.split(":")[1].strip() for line in text.splitlines() if "model name" in line), "unknown"
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    return (
        f"{model}, {cores} cores, {memory:.0f} GiB, {platform.system()}, Python {platform.python_version()}"
    )


def versions() -> str:
    """The packages that figures may depend on."""
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """A Markdown table."""
    return [
        f"| {' | '.join(header)} |",
        f"|{'---|' * len(header)}",
        *(f"| {' | '.join(map(str, row))} |" for row in rows),
    ]


def spread(values: Sequence[float], digits: int = 1) -> str:
    """The median, the range, and how many there are."""
    if not values:
        return "–"
    middle = f"{median(values):.{digits}f}"
    if len(values) == 1:
        return f"{middle} (n 1)"
    return f"{middle} ({min(values):.{digits}f}–{max(values):.{digits}f}, n {len(values)})"


def write(
    name: str, title: str, lines: Iterable[str], *, options: Sequence[str] = (), folder: Path = RESULTS
) -> None:
    """Write one page, with the command that measures what is on it."""
    measuring = [option for option in options if option != "--page"]
    command = shlex.join(["python", "-m", "bench", name, *measuring])
    head = [
        f"# {title}",
        "",
        f"`{command}` · {datetime.now(UTC).date()} · {machine()} · {versions()}",
        "",
    ]
    text = "\n".join([*head, *lines]) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text(text)
    print(text)
