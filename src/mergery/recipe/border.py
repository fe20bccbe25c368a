"""The YAML border: text in, plain data out, with errors that say where.

Everything behind the border is frozen dataclasses. Recipes are read by :mod:`mergery.recipe.grammar`, which
finds every mistake; simpler documents are defined with pydantic, and :func:`checked` says their first one.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from mergery.errors import MergeryError, RecipeError, near_miss
from mergery.recipe.mistakes import place

__all__ = ["Document", "checked", "load_yaml", "parse_yaml", "place", "read_text", "yaml_documents"]

D = TypeVar("D", bound="Document")


class Document(BaseModel):
    """A mapping whose unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=False)


class _StrictLoader(yaml.SafeLoader):
    """YAML in which a key written twice in one mapping is an error, not an overwrite."""


def _mapping(loader: _StrictLoader, node: yaml.MappingNode) -> dict[object, object]:
    loader.flatten_mapping(node)
    seen: dict[object, object] = {}
    for key_node, value_node in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, Hashable) or key in seen:
            problem = "is written twice" if isinstance(key, Hashable) else "cannot be a key"
            raise yaml.constructor.ConstructorError(None, None, f"{key!r} {problem}", key_node.start_mark)
        seen[key] = loader.construct_object(value_node, deep=True)
    return seen


_StrictLoader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def load_yaml(path: Path, *, error: type[MergeryError] = RecipeError) -> Mapping[str, object]:
    """Read one YAML mapping from a file; errors name the file."""
    return parse_yaml(read_text(path, error=error), where=str(path), error=error)


def read_text(path: Path, *, error: type[MergeryError] = RecipeError) -> str:
    """The text of a YAML file."""
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        reason = problem.strerror if isinstance(problem, OSError) else "it is not UTF-8 text"
        raise error(f"{path}: cannot be read: {reason}", fix="give the path of a YAML file") from problem


def parse_yaml(text: str, *, where: str, error: type[MergeryError] = RecipeError) -> Mapping[str, object]:
    """Read one YAML mapping; a second document, or anything but a mapping, is an error."""
    documents = yaml_documents(text, where=where, error=error)
    if len(documents) != 1 or not isinstance(documents[0], dict):
        got = f"{len(documents)} documents" if len(documents) != 1 else type(documents[0]).__name__
        raise error(
            f"{where}: expected one mapping, got {got}", fix="write keys such as merge_method: linear"
        )
    return documents[0]


def yaml_documents(text: str, *, where: str, error: type[MergeryError] = RecipeError) -> tuple[object, ...]:
    """The documents of a YAML text; a key written twice is an error, and so is what is not YAML."""
    try:
        return tuple(yaml.load_all(text, Loader=_StrictLoader))
    except yaml.YAMLError as problem:
        mark = getattr(problem, "problem_mark", None)
        line = f" line {mark.line + 1}:" if mark else ""
        reason = getattr(problem, "problem", None) or "not YAML"
        raise error(f"{where}:{line} {reason}", fix="correct the YAML there") from problem


def checked(
    document: type[D], data: object, *, where: str = "", error: type[MergeryError] = RecipeError
) -> D:
    """Check plain data against a document's definition.

    Args:
        document: the definition.
        data: as YAML gave it.
        where: put before the path in errors (``recipe``).
        error: type of the error raised.

    Raises:
        MergeryError: of type ``error``, for the first thing that is wrong.
    """
    try:
        return document.model_validate(data)
    except ValidationError as problem:
        # a misspelt key is the better explanation of the missing one
        first = min(problem.errors(), key=lambda entry: entry["type"] != "extra_forbidden")
    spot = place(where, first["loc"])
    if first["type"] == "extra_forbidden":
        known = _fields(document, first["loc"][:-1])
        raise error(f"{spot}: unknown key", fix=near_miss(str(first["loc"][-1]), known))
    if first["type"] == "missing":
        raise error(f"{spot}: missing", fix=f"add {first['loc'][-1]}:")
    message = first["msg"].removeprefix("Value error, ")
    raise error(f"{spot}: {message[0].lower()}{message[1:]}, got {first['input']!r}", fix="correct the value")


def _fields(document: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """The keys of the definition that ``path`` leads to."""
    for part in path:
        if isinstance(part, str) and part in document.model_fields:
            document = _inner(document.model_fields[part].annotation) or document
    return [field.alias or name for name, field in document.model_fields.items()]


def _inner(annotation: object) -> type[BaseModel] | None:
    """The document inside ``list[Doc]``, ``Doc | None`` and the like."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in getattr(annotation, "__args__", ()) if (found := _inner(part))), None)
