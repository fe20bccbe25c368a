"""Write the pages of docs/ that the code itself knows best: the merge methods and the command line.

``python tools/pages.py`` writes them; with ``--check`` it only says whether they are as the code is.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from mergery.methods import MergeMethod, Stack, TaskVectors, Weights, get_method, method_names

DOCS = Path(__file__).resolve().parent.parent / "docs"
VERBS = ("merge", "check", "plan", "soup", "evolve", "demo", "methods", "methods show", "inspect")
_WORKS_ON = {
    TaskVectors: "task vectors",
    Weights: "weights",
    Stack: "weights; task vectors, where a base is given",
}
GROUPS = (
    "study",
    "study show",
    "study best",
    "study pareto",
    "study export",
    "zoo",
    "zoo build",
    "zoo ready",
)


def methods_page() -> str:
    """Every merge method with its docstring and parameters."""
    parts = [
        "# Merge methods",
        "",
        "Made from the methods' own docstrings by `make docs`; `mergery methods show NAME` prints the same.",
        "",
        "| method | what it does | works on | base | defined in |",
        "|---|---|---|---|---|",
    ]
    methods = [get_method(name) for name in method_names()]
    for method in methods:
        space = _WORKS_ON[method.on]
        base = "required, first of the two" if method.base == "first" else method.base
        parts.append(
            f"| [`{method.name}`](#{method.name}) | {method.summary} | {space} | {base} | {method.paper} |"
        )
    for method in methods:
        parts += [
            "",
            f"## {method.name}",
            "",
            "```text",
            method.documentation,
            "```",
            "",
            *_parameters(method),
        ]
    return "\n".join(parts) + "\n"


def _parameters(method: MergeMethod) -> list[str]:
    rows = [
        "| parameter | one for | kind | range | default | a search looks in |",
        "|---|---|---|---|---|---|",
    ]
    for known in method.parameters.values():
        search = f"{known.search[0]:g} to {known.search[1]:g}" if known.search else ""
        span = f"{known.interval.low:g} to {known.interval.high:g}" if known.interval else ""
        default = "required" if known.default is None else str(known.default).lower()
        owner = "each model" if known.per_model else "the merge"
        rows.append(f"| `{known.name}` | {owner} | {known.kind.__name__} | {span} | {default} | {search} |")
    if method.ignores:
        names = ", ".join(f"`{name}`" for name in method.ignores)
        rows += ["", f"Accepted and without effect: {names}."]
    return rows


def command_line_page() -> str:
    """The help text of every verb."""
    parts = ["# The command line", "", "Made from `mergery --help` by `make docs`."]
    for verb in ("", *VERBS, *GROUPS):
        title = f"mergery {verb}".strip()
        parts += ["", f"## {title}", "", "```text", _help(verb), "```"]
    return "\n".join(parts) + "\n"


def _help(verb: str) -> str:
    environment = os.environ | {"COLUMNS": "100", "TERM": "dumb", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "mergery", *verb.split(), "--help"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    lines = [line.rstrip().replace("python -m mergery", "mergery") for line in done.stdout.splitlines()]
    return "\n".join(lines).strip()


PAGES: dict[str, Callable[[], str]] = {"methods.md": methods_page, "cli.md": command_line_page}


def main() -> int:
    """Write or check every page; 1 if one is not as the code is."""
    stale = []
    for name, page in PAGES.items():
        file, text = DOCS / name, page()
        if "--check" not in sys.argv:
            file.write_text(text, encoding="utf-8")
        elif not file.exists() or file.read_text(encoding="utf-8") != text:
            stale.append(name)
    if stale:
        print(f"docs/{', docs/'.join(stale)}: not as the code is; run `make docs`")
    return bool(stale)


if __name__ == "__main__":
    sys.exit(main())
