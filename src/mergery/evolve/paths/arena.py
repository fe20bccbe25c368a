"""Memory for tensors that stay, apart from that in which others come and go.

Where tensors that stay lie between those of a forward pass, the allocator of the C library gives pages back
and takes them again at every step: layers of a model of 3 M parameters took twice their time, which ate what
keeping their outcomes saved. So what stays is copied into large blocks of its own.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Arena"]

_BLOCK = 64 * 2**20
"""Bytes of a block: more than any the C library would take from its heap."""

_ALIGNED = 64
"""Bytes to whose multiples tensors are aligned, as torch's own: sums of others may have other last bits."""


@dataclass(eq=False)
class _Block:
    """One block.

    Attributes:
        memory: ``(bytes,)`` uint8.
        free: start and end of every free stretch, in order; no two of them touch.
    """

    memory: Tensor
    free: list[tuple[int, int]]

    def place(self, size: int) -> int | None:
        """The first stretch of this size; ``None`` if there is none."""
        for number, (start, end) in enumerate(self.free):
            if end - start >= size:
                self.free[number : number + 1] = [(start + size, end)] if end - start > size else []
                return start
        return None

    def give_back(self, start: int, end: int) -> None:
        """A stretch is free again, and one with those beside it."""
        number = bisect(self.free, (start, end))
        if number < len(self.free) and self.free[number][0] == end:
            end = self.free.pop(number)[1]
        if number and self.free[number - 1][1] == start:
            number -= 1
            start = self.free.pop(number)[0]
        self.free.insert(number, (start, end))


class Arena:
    """Copies of tensors, in blocks.

    Args:
        limit: bytes of all blocks.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._blocks: list[_Block] = []
        self._places: dict[int, tuple[_Block, int, int]] = {}

    @staticmethod
    def room_for(tensor: Tensor) -> int:
        """Bytes that a tensor takes."""
        return -(-tensor.nbytes // _ALIGNED) * _ALIGNED

    def keep(self, tensor: Tensor) -> Tensor | None:
        """A copy that stays until it is released; ``None`` if there is no room."""
        import torch

        size = self.room_for(tensor)
        # a block made in inference mode could not be written to outside of it
        with torch.inference_mode(False), torch.no_grad():
            for block in chain(self._blocks[:], self._another(size, tensor)):
                start = block.place(size)
                if start is not None:
                    place = block.memory[start : start + tensor.nbytes]
                    copy = place.view(tensor.dtype).view(tensor.shape).copy_(tensor)
                    self._places[copy.data_ptr()] = (block, start, size)
                    return copy
        return None

    def release(self, tensor: Tensor) -> None:
        """Take the place of a kept tensor for others."""
        block, start, size = self._places.pop(tensor.data_ptr())
        block.give_back(start, start + size)

    def _another(self, size: int, like: Tensor) -> Iterator[_Block]:
        """A new block, when it is asked for and there is room."""
        import torch

        taken = sum(block.memory.numel() for block in self._blocks)
        wanted = max(size, min(_BLOCK, self._limit - taken))
        if taken + wanted <= self._limit:
            memory = torch.empty(wanted, dtype=torch.uint8, device=like.device)
            self._blocks.append(_Block(memory, [(0, wanted)]))
            yield self._blocks[-1]
