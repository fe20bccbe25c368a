"""Random numbers that depend on what they are for, not on when they are drawn.

Element ``i`` of model ``k`` of tensor ``name`` always gets the same number for the same seed, whatever
the thread, chunk, shard or device it is computed on: the generator is a counter, SplitMix64 (Steele,
Lea and Flood, OOPSLA 2014, figure 17), whose stream is started at a hash of (seed, name, model).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

__all__ = ["RandomKey", "uniform"]

_GOLDEN_GAMMA = 0x9E3779B97F4A7C15
_MIX = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
_LAST_SHIFT = 31
_MANTISSA = 24


@dataclass(frozen=True)
class RandomKey:
    """Names one tensor's random numbers.

    Attributes:
        seed: the recipe's seed.
        name: the output tensor.
    """

    seed: int = 0
    name: str = ""

    def stream(self, model: int) -> int:
        """Where the counter of one model starts, as an unsigned 64-bit integer."""
        text = f"{self.seed}\0{self.name}\0{model}".encode()
        return int.from_bytes(hashlib.sha256(text).digest()[:8], "little")


def uniform(key: RandomKey, models: int, first: int, elements: int, like: Tensor) -> Tensor:
    """Uniform numbers in [0, 1), multiples of 2**-24, on any device.

    Args:
        key: names the tensor.
        models: K, the number of rows.
        first: the first element.
        elements: m, the number of columns.
        like: a tensor on the device to compute on.

    Returns:
        ``(K, m)`` float32.
    """
    numbers = like.new_empty(models, elements)
    counter = like.new_ones(elements, dtype=_int64(like)).cumsum_(0).add_(first).mul_(_signed(_GOLDEN_GAMMA))
    for model, row in enumerate(numbers):
        state = counter + _signed(key.stream(model))
        for shift, factor in _MIX:
            state ^= _shift_right(state, shift)
            state *= _signed(factor)
        state ^= _shift_right(state, _LAST_SHIFT)
        row.copy_(_shift_right(state, 64 - _MANTISSA))
    return numbers.mul_(2.0**-_MANTISSA)


def _int64(like: Tensor) -> torch.dtype:
    """The dtype of 64-bit integers, without importing torch."""
    return like.new_zeros(1).long().dtype


def _shift_right(state: Tensor, bits: int) -> Tensor:
    """Shift in zeros: the tensor's own shift copies the sign bit."""
    return (state >> bits).bitwise_and_((1 << (64 - bits)) - 1)


def _signed(value: int) -> int:
    """The signed 64-bit integer of the same bits; products wrap around as the generator wants."""
    return value - (1 << 64) if value >> 63 else value
