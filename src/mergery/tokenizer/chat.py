"""Chat templates: which one the result gets, and how it is stored."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from mergery.errors import RecipeError, near_miss
from mergery.tokenizer.reading import read_object

__all__ = ["CHAT_TEMPLATES", "chat_template", "resolve_chat_template", "write_chat_template"]

_BUILT_IN = Path(__file__).parent / "chat_templates"
_FILE = "chat_template.jinja"
_NAMED = "additional_chat_templates"

CHAT_TEMPLATES = tuple(sorted(file.stem for file in _BUILT_IN.glob("*.jinja")))
"""Names of the built-in templates."""


def resolve_chat_template(choice: str, directories: Sequence[Path]) -> str | None:
    """The text of the template that a recipe's ``chat_template`` means.

    Args:
        choice: ``auto`` for the one that most of the models have (of several, the first listed), the
            name of a built-in one, or Jinja text.
        directories: of the models, in the recipe's order.

    Returns:
        Jinja text, or ``None`` if the choice is ``auto`` and no model has one.

    Raises:
        RecipeError: if the choice is neither a known name nor valid Jinja.
    """
    if choice == "auto":
        found = [text.strip() for directory in directories if (text := chat_template(directory))]
        # of equal counts, the one met first
        return Counter(found).most_common(1)[0][0] if found else None
    if choice in CHAT_TEMPLATES:
        return (_BUILT_IN / f"{choice}.jinja").read_text(encoding="utf-8").strip()
    if "{" not in choice:
        raise RecipeError(
            f"chat_template: {choice!r} is no known template and no Jinja",
            fix=near_miss(choice, ("auto", *CHAT_TEMPLATES)),
        )
    from mergery.tokenizer.jinja import check_syntax  # rarely needed, and loading Jinja takes its time

    check_syntax(choice)
    return choice


def chat_template(directory: Path) -> str | None:
    """A model directory's chat template, wherever it is stored; of several, the default one."""
    file = directory / _FILE
    if file.exists():
        return file.read_text(encoding="utf-8")
    # up to transformers 4: in the tokenizer's settings, or in the processor's own file
    for name in ("tokenizer_config.json", "chat_template.json"):
        stored = read_object(directory / name).get("chat_template")
        if isinstance(stored, list):
            stored = next((entry["template"] for entry in stored if _is_default(entry)), None)
        if isinstance(stored, str):
            return stored
    return None


def write_chat_template(directory: Path, text: str) -> tuple[str, ...]:
    """Make a template the only one of a model directory, as transformers 5 stores it.

    Args:
        directory: of the model; its tokenizer is already there.
        text: Jinja.

    Returns:
        Names of the files written.
    """
    (directory / _FILE).write_text(text, encoding="utf-8")
    shutil.rmtree(directory / _NAMED, ignore_errors=True)
    (directory / "chat_template.json").unlink(missing_ok=True)
    file = directory / "tokenizer_config.json"
    settings = read_object(file)
    if settings.pop("chat_template", None) is None:
        return (_FILE,)
    file.write_text(json.dumps(settings, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    return (_FILE, file.name)


def _is_default(entry: object) -> bool:
    return isinstance(entry, Mapping) and entry.get("name") == "default"
