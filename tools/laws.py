"""The house's laws that no linter knows: sizes, one file for each heavy package, no order from sets."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LONGEST_FILE = 400
LONGEST_FUNCTION = 60
LONGEST_VERB = 80
HEAVY = ("ray", "vllm", "lm_eval")
FORBIDDEN_NAMES = ("utils", "common", "helpers", "misc")


def sizes(path: Path, lines: int, tree: ast.Module) -> Iterator[str]:
    """No file over 400 lines, no function over 60, no verb over 80."""
    limit = LONGEST_VERB if path.parent.name == "cli" else LONGEST_FILE
    if lines > limit:
        yield f"{path}: {lines} lines, {limit} are allowed"
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > LONGEST_FUNCTION:
                yield f"{path}:{node.lineno}: {node.name} has {length} lines, {LONGEST_FUNCTION} are allowed"


def names(path: Path) -> Iterator[str]:
    """A module is called by what it holds."""
    if path.stem in FORBIDDEN_NAMES or path.parent.name in FORBIDDEN_NAMES:
        yield f"{path}: name it by what it holds"


def orders(path: Path, tree: ast.Module) -> Iterator[str]:
    """Nothing is walked through in the order of a set."""
    for node in ast.walk(tree):
        if isinstance(node, ast.For | ast.comprehension) and _is_set(node.iter):
            yield f"{path}:{node.iter.lineno}: the order of a set is not defined; sort it"


def _is_set(node: ast.expr) -> bool:
    if isinstance(node, ast.Set | ast.SetComp):
        return True
    if isinstance(node, ast.BinOp):
        return _is_set(node.left) or _is_set(node.right) or (_is_keys(node.left) and _is_keys(node.right))
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("set", "frozenset")
    )


def _is_keys(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "keys"


def imports(tree: ast.Module) -> Iterator[str]:
    """The packages that a file imports anywhere."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module.partition(".")[0]


def torchless() -> Iterator[str]:
    """``--help`` and recipes answer without loading torch."""
    probe = (
        "import sys, mergery.cli, mergery.recipe, mergery.methods, mergery.checkpoint;"
        "mergery.methods.method_names(); sys.exit('torch' in sys.modules)"
    )
    if subprocess.run([sys.executable, "-c", probe], check=False).returncode:
        yield "mergery.cli or mergery.recipe imports torch"


def main() -> int:
    """Print every breach; the number of them decides the exit code."""
    breaches: list[str] = []
    homes: dict[str, list[Path]] = {package: [] for package in HEAVY}
    for file in sorted((ROOT / "src").rglob("*.py")):
        text = file.read_text(encoding="utf-8")
        path, tree = file.relative_to(ROOT), ast.parse(text)
        breaches += [*sizes(path, len(text.splitlines()), tree), *names(path), *orders(path, tree)]
        for package in dict.fromkeys(imports(tree)):
            if package in homes:
                homes[package].append(path)
    breaches += [
        f"{package} is imported by {', '.join(map(str, files))}: one file may"
        for package, files in homes.items()
        if len(files) > 1
    ]
    breaches += torchless()
    print("\n".join(breaches) or "laws: kept")
    return bool(breaches)


if __name__ == "__main__":
    sys.exit(main())
