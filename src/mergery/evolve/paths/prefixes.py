"""Hidden states behind the first hops of recent paths, kept for candidates that begin alike.

A local search changes a few hops of one path at a time: up to the first change, every layer would compute
what it computed before. What is worth keeping is what the next candidate will begin with, so:

- the path that candidates are varied from has the first claim: it is the one that two candidates in a row
  share more with than with any path that was thought to be it. Where memory holds only a few of its states,
  those lie at equal distances, which loses half a distance a candidate;
- what is left goes to what was used last.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mergery.evolve.paths.arena import Arena
from mergery.evolve.paths.path import Hop, Path

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["PrefixStates"]

_RECENT = 64
"""Candidates after which nothing of a path is kept, nor is it thought to be the one that others come from."""

_PATIENCE = 2
"""Candidates in a row that must be nearer to another path before that one takes its place."""

_CLAIM = 0.8
"""Share of a scarce memory that this path's states may take: the rest shows which one comes next."""


@dataclass
class _Entry:
    """States behind one prefix.

    Attributes:
        depth: how many hops it has.
        used: number of the last candidate that had it.
        states: by batch.
    """

    depth: int
    used: int = 0
    states: dict[bytes, Tensor] = field(default_factory=dict)


class PrefixStates:
    """States by prefix and batch, within a number of bytes.

    Args:
        limit: bytes; 0 keeps nothing.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._arena = Arena(limit)
        self._bytes = 0
        self._number = 0
        self._entries: dict[bytes, _Entry] = {}
        self._recent: deque[tuple[Hop, ...]] = deque(maxlen=_RECENT)
        self._parent: tuple[Hop, ...] = ()
        self._strikes = 0
        self._batches: dict[bytes, int] = {}
        self._unit = 0

    @property
    def size(self) -> int:
        """Bytes of what is kept."""
        return self._bytes

    def enter(self, path: Path) -> tuple[bytes, ...]:
        """Begin a candidate: decide what is worth keeping from now on.

        Returns:
            The key of every prefix of the path, the shortest first.
        """
        self._number += 1
        self._find_parent(path.hops)
        keys = _keys(path.hops)
        for depth, key in enumerate(keys, 1):
            self._entries.setdefault(key, _Entry(depth)).used = self._number
        self._make_room()
        return keys

    def clear(self) -> None:
        """Forget everything: the weights behind the states have changed."""
        for entry in self._entries.values():
            for state in entry.states.values():
                self._arena.release(state)
        self._entries.clear()
        self._recent.clear()
        self._bytes, self._parent, self._strikes = 0, (), 0

    def longest(self, keys: Sequence[bytes], batch: bytes) -> tuple[int, Tensor | None]:
        """How many hops of a path are known for a batch, and the state behind them."""
        for depth in range(len(keys), 0, -1):
            entry = self._entries.get(keys[depth - 1])
            if entry is not None and batch in entry.states:
                self._batches[batch] = self._arena.room_for(entry.states[batch])
                return depth, entry.states[batch]
        return 0, None

    def offer(self, key: bytes, batch: bytes, state: Tensor) -> None:
        """Keep a copy of a state if its prefix is worth it and there is room."""
        size = self._batches[batch] = self._arena.room_for(state)
        entry = self._entries.get(key)
        if entry is None or batch in entry.states or self._bytes + size > self._limit:
            return
        kept = self._arena.keep(state)
        if kept is not None:
            entry.states[batch] = kept
            self._bytes += size

    def _find_parent(self, hops: tuple[Hop, ...]) -> None:
        shared = [_shared(hops, other) for other in self._recent]
        most = max(shared, default=0)
        self._strikes = self._strikes + 1 if _shared(hops, self._parent) < most else 0
        if not self._parent:
            self._parent = hops
        elif self._strikes == _PATIENCE:
            nearest = len(shared) - 1 - shared[::-1].index(most)
            self._parent, self._strikes = self._recent[nearest], 0
        if hops in self._recent:
            self._recent.remove(hops)
        self._recent.append(hops)

    def _make_room(self) -> None:
        """Drop the entries that do not fit if every other one is filled."""
        if self._batches:
            self._unit = sum(self._batches.values())
        claimed = self._claimed()
        order = sorted(
            self._entries,
            key=lambda key: (key not in claimed, -self._entries[key].used, self._entries[key].depth),
        )
        needed = 0
        for key in order:
            entry = self._entries[key]
            # batches of which nothing was seen lately take their room beside those that will be stored
            stale = sum(
                self._arena.room_for(state)
                for batch, state in entry.states.items()
                if batch not in self._batches
            )
            needed += self._unit + stale
            if needed > self._limit or entry.used < self._number - _RECENT:
                del self._entries[key]
                for state in entry.states.values():
                    self._arena.release(state)
                    self._bytes -= self._arena.room_for(state)
        self._batches = {}

    def _claimed(self) -> dict[bytes, None]:
        """The parent's prefixes that have the first claim."""
        depth = len(self._parent)
        room = self._limit // self._unit if self._unit else depth
        count = depth if room > depth / _CLAIM else max(1, int(room * _CLAIM))
        keys = _keys(self._parent)
        return dict.fromkeys(
            keys[min(depth, round(step * (depth + 1) / (count + 1))) - 1] for step in range(1, count + 1)
        )


def _keys(hops: Sequence[Hop]) -> tuple[bytes, ...]:
    """A hash for every prefix."""
    keys, last = [], b""
    for hop in hops:
        last = hashlib.blake2b(last + repr(hop).encode(), digest_size=16).digest()
        keys.append(last)
    return tuple(keys)


def _shared(hops: Sequence[Hop], others: Sequence[Hop]) -> int:
    """How many hops two paths share from the beginning."""
    count = 0
    for hop, other in zip(hops, others):  # noqa: B905 - of different lengths
        if hop != other:
            break
        count += 1
    return count
