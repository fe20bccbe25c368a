"""Recipe files: one recipe, or several that use each other by name (mergekit-multi's form)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mergery.checkpoint import ModelRef
from mergery.errors import RecipeError, near_miss
from mergery.recipe.border import read_text, yaml_documents
from mergery.recipe.grammar import read_recipe
from mergery.recipe.mistakes import Mistakes, shown
from mergery.recipe.recipe import Recipe

__all__ = ["Reading", "read_file", "read_yaml"]


@dataclass(frozen=True)
class Reading:
    """What a recipe's text says.

    Attributes:
        recipe: the recipe; ``None`` if there are mistakes.
        mistakes: all of them, in the order of the text.
        notes: what has no effect, in words for its author.
    """

    recipe: Recipe | None
    mistakes: tuple[RecipeError, ...]
    notes: tuple[str, ...] = ()

    def sound(self) -> Recipe:
        """The recipe.

        Raises:
            RecipeError: the mistake, or a :class:`RecipeErrors` of all.
        """
        found = Mistakes()
        found.found.extend(self.mistakes)
        found.raise_all()
        assert self.recipe is not None
        return self.recipe


def read_file(path: Path) -> Reading:
    """Read and check a file of recipes; a file that cannot be read is a mistake like others."""
    try:
        text = read_text(path)
    except RecipeError as mistake:
        return Reading(None, (mistake,))
    return read_yaml(text, where=str(path))


def read_yaml(text: str, *, where: str = "recipe") -> Reading:
    """Read and check one recipe, or several in as many documents.

    Of several, each but one has a ``name``, by which the others use it where a model is expected. The one
    without a name is the result; if all have one, the last is.

    Args:
        text: YAML.
        where: what to call the text if it is not YAML.
    """
    mistakes = Mistakes()
    try:
        written = [document for document in yaml_documents(text, where=where) if document is not None]
    except RecipeError as mistake:
        return Reading(None, (mistake,))
    for document in written or [None]:
        if not isinstance(document, Mapping):
            mistakes.add(
                f"{where}: expected a mapping, got {shown(document)}",
                fix="write keys such as merge_method: linear",
            )
    if mistakes.found:
        return Reading(None, tuple(mistakes.found))
    documents = [document for document in written if isinstance(document, Mapping)]
    recipe = _Documents(documents, mistakes).result()
    if recipe is None or mistakes.found:
        return Reading(None, tuple(mistakes.found), tuple(mistakes.notes))
    notes = tuple(mistakes.notes)
    return Reading(replace(recipe, notes=notes), (), notes)


class _Documents:
    """The recipes of one file, by name. Each is read when it is first used."""

    def __init__(self, documents: Sequence[Mapping[str, object]], mistakes: Mistakes) -> None:
        self._mistakes = mistakes
        self._several = len(documents) > 1
        self._data: dict[str, Mapping[str, object]] = {}
        self._read: dict[str, Recipe | None] = {}
        self._open: list[str] = []
        self._unnamed: Mapping[str, object] | None = None
        for document in documents:
            self._enter(dict(document))

    def result(self) -> Recipe | None:
        """The recipe that the file is for; all others are checked, too, and used ones are inside it."""
        last = next(reversed(self._data), "")
        if self._unnamed is None:
            result = self._recipe(last)
        else:
            result = read_recipe(self._unnamed, "", self._mistakes, self._resolve)
        unused = [name for name in self._data if name not in self._read]
        for name in unused:
            self._recipe(name)
            self._mistakes.note(f"{name}: the result does not use it")
        return result

    def _enter(self, document: dict[str, object]) -> None:
        name = document.pop("name", None)
        if name is None and self._unnamed is not None:
            self._mistakes.add(
                "name: missing in a second document", fix="give every recipe but the result a name"
            )
        elif name is None:
            self._unnamed = document
        elif not isinstance(name, str) or not name:
            self._mistakes.add(f"name: expected a text, got {shown(name)}", fix="put it in quotes")
            self._unnamed = self._unnamed or document
        elif name in self._data:
            self._mistakes.add(f"name: two recipes are called {name}", fix="give each a name of its own")
        else:
            self._data[name] = document

    def _resolve(self, text: str, where: str) -> ModelRef | Recipe:
        """The recipe of that name, or the model; a wrong recipe's name stands for it, as if a model's."""
        if text not in self._data:
            model = ModelRef.parse(text, where=where)
            if self._several and "/" not in text and not Path(text).expanduser().is_dir():
                raise RecipeError(
                    f"{where}: {text} is neither a recipe of this file nor a directory",
                    fix=near_miss(text, self._data),
                )
            return model
        if text in self._open:
            circle = " uses ".join([*self._open[self._open.index(text) :], text])
            raise RecipeError(f"{where}: {circle}", fix="make no recipe out of itself")
        return self._recipe(text) or ModelRef(text)

    def _recipe(self, name: str) -> Recipe | None:
        if name not in self._read:
            self._open.append(name)
            self._read[name] = read_recipe(self._data[name], name, self._mistakes, self._resolve)
            self._open.pop()
        return self._read[name]
