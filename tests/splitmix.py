"""The published generator of random masks, without using ours."""

from __future__ import annotations

import hashlib


def splitmix64(seed: int, name: str, model: int, count: int) -> list[float]:
    """The published generator in Python's own integers: Steele, Lea and Flood 2014, figure 17."""
    mask = (1 << 64) - 1
    digest = hashlib.sha256(f"{seed}\0{name}\0{model}".encode()).digest()
    state = int.from_bytes(digest[:8], "little")
    numbers = []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & mask
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        z ^= z >> 31
        numbers.append((z >> 40) / 2.0**24)
    return numbers
