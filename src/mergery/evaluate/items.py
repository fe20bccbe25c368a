"""Task items: JSONL files of prompts and answers, read strictly.

One JSON object a line::

    {"prompt": "motsu taro ringo 3 . ikutsu taro ringo ?", "answer": " 3"}

The text a model sees is ``prompt + answer``, so the answer carries its own leading space. ``"id"`` is
optional. An item's hash is that of its content, so the same question is found again in another file,
whatever its id and its spacing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mergery.errors import DataError, near_miss

__all__ = ["Item", "Items", "disjoint", "load_items"]

_KEYS = ("prompt", "answer", "id")


@dataclass(frozen=True)
class Item:
    """One question with its gold answer.

    Attributes:
        prompt: what the model reads.
        answer: what it should go on with, leading space included.
        id: the file's own name for it, or ``None``.
        line: where it stands in its file, from 1.
    """

    prompt: str
    answer: str
    id: str | None = None
    line: int = 0

    @cached_property
    def hash(self) -> str:
        """Hash of prompt and answer with every run of whitespace counted as one space; 32 hex digits."""
        content = "\0".join(" ".join(text.split()) for text in (self.prompt, self.answer))
        return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


@dataclass(frozen=True)
class Items:
    """The items of one file, in its order.

    Attributes:
        name: where they come from, for error texts.
        entries: the items.
    """

    name: str
    entries: tuple[Item, ...]

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Item]:
        return iter(self.entries)

    @cached_property
    def hashes(self) -> tuple[str, ...]:
        """The items' hashes, in order."""
        return tuple(item.hash for item in self.entries)

    @cached_property
    def digest(self) -> str:
        """Hash of all items in their order; 32 hexadecimal digits."""
        return hashlib.blake2b("".join(self.hashes).encode(), digest_size=16).hexdigest()


def load_items(path: Path | str) -> Items:
    """Read a JSONL file of prompts and answers.

    Args:
        path: the file; empty lines in it are skipped.

    Raises:
        DataError: if it cannot be read, is empty, holds a line that is not such an item, or the same
            item twice.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else "it is not UTF-8 text"
        raise DataError(f"{path}: cannot be read: {reason}", fix="give the path of a JSONL file") from problem
    entries = tuple(
        _item(line, number, f"{path}:{number}")
        for number, line in enumerate(text.split("\n"), start=1)
        if line.strip()
    )
    if not entries:
        raise DataError(f"{path}: holds no items", fix='write one {"prompt": ..., "answer": ...} a line')
    items = Items(str(path), entries)
    _check_unique(items)
    return items


def disjoint(validation: Items, test: Items) -> None:
    """Check that no test item is among the validation items, by content.

    A search picks what does best on the validation items; a test item among them would be reported as
    skill on questions never seen.

    Raises:
        DataError: with the number of items in common and the lines of the first.
    """
    lines = {item.hash: item.line for item in test}
    shared = [item for item in validation if item.hash in lines]
    if shared:
        first = shared[0]
        raise DataError(
            f"{validation.name}: {len(shared)} of its {len(validation)} items are also in {test.name}, "
            f"first line {first.line} (there line {lines[first.hash]}): {first.prompt!r}",
            fix="take them out of one of the two files",
        )


def _item(line: str, number: int, where: str) -> Item:
    try:
        data = json.loads(line)
    except json.JSONDecodeError as problem:
        raise DataError(
            f"{where}: not JSON: {problem.msg} at column {problem.colno}", fix="write one JSON object a line"
        ) from problem
    if not isinstance(data, dict):
        raise DataError(
            f"{where}: expected a JSON object, got {type(data).__name__}",
            fix='write {"prompt": ..., "answer": ...}',
        )
    for key in data:
        if key not in _KEYS:
            raise DataError(f"{where}: unknown key {key!r}", fix=near_miss(key, _KEYS))
    for key in ("prompt", "answer"):
        if key not in data:
            raise DataError(f"{where}: no {key}", fix=f'add "{key}": "..."')
        if not isinstance(data[key], str) or not data[key].strip():
            raise DataError(
                f"{where}: {key} must be text that is not blank, got {data[key]!r}", fix=f"write the {key}"
            )
    name = data.get("id")
    if name is not None and not isinstance(name, str | int):
        raise DataError(f"{where}: id must be text or a whole number, got {name!r}", fix="remove the id")
    return Item(data["prompt"], data["answer"], None if name is None else str(name), number)


def _check_unique(items: Items) -> None:
    seen: dict[str, int] = {}
    for item in items:
        if item.hash in seen:
            raise DataError(
                f"{items.name}:{item.line}: the same item as line {seen[item.hash]}", fix="remove one of them"
            )
        seen[item.hash] = item.line
