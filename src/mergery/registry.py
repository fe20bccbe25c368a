"""Named things that others can add to: merge methods, search algorithms, evaluators.

A registry knows its built-in modules by name and imports them, together with the plug-ins that
installed packages announce under its entry-point group, at the first look-up.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from mergery.errors import MergeryError, near_miss

T = TypeVar("T")

__all__ = ["Registry"]


class Registry(Generic[T]):
    """Names to registered values, in the order of registration.

    Args:
        kind: what is registered, in words a user knows (``merge method``).
        group: entry-point group in which installed packages announce theirs (``mergery.methods``).
        modules: built-in modules whose import registers our own.
        error: the error raised for an unknown name.
    """

    def __init__(self, kind: str, group: str, modules: tuple[str, ...], error: type[MergeryError]) -> None:
        self.kind = kind
        self._group = group
        self._modules = modules
        self._error = error
        self._items: dict[str, T] = {}
        self._loaded = False

    def add(self, name: str, value: T) -> None:
        """Register ``value``; a second registration of one name is a defect of the caller."""
        if name in self._items:
            raise ValueError(f"{self.kind} {name!r} is registered twice")
        self._items[name] = value

    def get(self, name: str, *, where: str) -> T:
        """The value registered under ``name``.

        Args:
            name: as the user wrote it.
            where: where the user wrote it, for the error text.

        Raises:
            MergeryError: of the registry's error type, naming the near miss.
        """
        self._load()
        if name not in self._items:
            raise self._error(f"{where}: unknown {self.kind} {name!r}", fix=near_miss(str(name), self._items))
        return self._items[name]

    def __iter__(self) -> Iterator[str]:
        self._load()
        return iter(self._items)

    def _load(self) -> None:
        if self._loaded:
            return
        self._loaded = True
        for module in self._modules:
            importlib.import_module(module)
        for plugin in sorted(entry_points(group=self._group), key=lambda point: point.name):
            plugin.load()
