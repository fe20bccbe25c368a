"""A page of results: what was run, on which machine, with which versions, and the figures."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "results"
PACKAGES = ("mergery", "torch", "transformers", "cmaes", "optuna")


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


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """A Markdown table."""
    return [
        f"| {' | '.join(header)} |",
        f"|{'---|' * len(header)}",
        *(f"| {' | '.join(map(str, row))} |" for row in rows),
    ]


def write(name: str, title: str, lines: Iterable[str]) -> None:
    """Write one page, with the command that makes it."""
    versions = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    head = [
        f"# {title}",
        "",
        f"`python -m bench {name}` · {datetime.now(UTC).date()} · {machine()} · {versions}",
        "",
    ]
    text = "\n".join([*head, *lines]) + "\n"
    (RESULTS / f"{name}.md").write_text(text)
    print(text)
