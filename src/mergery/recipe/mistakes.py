"""Mistakes, collected on the way through a recipe, so that all of them are said in one go.

Readers of single values raise; whoever walks through a structure lets :class:`Mistakes` catch, and goes
on with the next part.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from reprlib import Repr
from typing import ParamSpec, TypeVar

from mergery.errors import RecipeError, RecipeErrors, near_miss

__all__ = ["Mistakes", "nearest", "place", "shown"]

P = ParamSpec("P")
T = TypeVar("T")

_SHORT = Repr()
_SHORT.maxstring = _SHORT.maxother = 60


class Mistakes:
    """What is wrong with a recipe, and what its author should be told although it is not wrong.

    Attributes:
        found: the mistakes, in the order of the walk.
        notes: what has no effect, in words for the user.
    """

    def __init__(self) -> None:
        self.found: list[RecipeError] = []
        self.notes: list[str] = []

    def add(self, message: str, *, fix: str) -> None:
        """Put down one mistake."""
        self.found.append(RecipeError(message, fix=fix))

    def note(self, text: str) -> None:
        """Put down what is no mistake, once."""
        if text not in self.notes:
            self.notes.append(text)

    def attempt(self, read: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | None:
        """What ``read`` returns; ``None`` if it raised, which is then put down."""
        try:
            return read(*args, **kwargs)
        except RecipeErrors as several:
            self.found.extend(several.mistakes)
        except RecipeError as mistake:
            self.found.append(mistake)
        return None

    def mapping(
        self, data: object, where: str, known: Sequence[str], *, required: Sequence[str] = ()
    ) -> dict[str, object]:
        """The known keys that have a value; YAML's null counts as none.

        A misspelt key is read as the one that was meant, so that what it holds is checked, too, and the
        other is not reported as missing.
        """
        if not isinstance(data, Mapping):
            self.add(
                f"{where or 'recipe'}: expected a mapping, got {shown(data)}", fix=f"write {known[0]}: ..."
            )
            return {}
        fields = {key: data[key] for key in known if data.get(key) is not None}
        for key in data:
            if key not in known:
                self.add(f"{place(where, (key,))}: unknown key", fix=near_miss(str(key), known))
                meant = nearest(str(key), known)
                if meant and data[key] is not None:
                    fields.setdefault(meant, data[key])
        for key in required:
            if key not in fields:
                self.add(f"{place(where, (key,))}: missing", fix=f"add {key}:")
        return fields

    def entries(self, data: object, where: str) -> Sequence[object]:
        """The entries of a list, which must have some."""
        if isinstance(data, Sequence) and not isinstance(data, str):
            if not data:
                self.add(f"{where}: an empty list", fix="give it an entry, or remove the key")
            return data
        self.add(f"{where}: expected a list, got {shown(data)}", fix="write its entries with - before each")
        return ()

    def raise_all(self) -> None:
        """Raise what was found, if anything was.

        Raises:
            RecipeError: the mistake, or a :class:`RecipeErrors` of all.
        """
        if self.found:
            raise self.found[0] if len(self.found) == 1 else RecipeErrors(self.found)


def place(where: str, path: Iterable[object]) -> str:
    """``("models", 0, "weight")`` as ``where.models[0].weight``."""
    text = where
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return text


def nearest(wrong: str, known: Iterable[str]) -> str | None:
    """The known name that was probably meant, if there is one."""
    return next(iter(difflib.get_close_matches(wrong, sorted(known), n=1, cutoff=0.6)), None)


def shown(data: object) -> str:
    """The value in few characters, for error texts."""
    return _SHORT.repr(data)
