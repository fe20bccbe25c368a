from __future__ import annotations

import random

import pytest
import torch

from mergery.evolve.paths import arena
from mergery.evolve.paths.arena import Arena


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(arena, "_BLOCK", 4096)


def test_what_is_kept_is_what_was_given(small_blocks):
    dice, memory = random.Random(1), Arena(20_000)
    held: list[tuple[torch.Tensor, torch.Tensor]] = []
    refused = 0
    for number in range(600):
        given = torch.randn(dice.choice([(3, 5, 7), (2, 16, 8), (1, 1, 1), (40, 20)]))
        with torch.inference_mode(number % 2 == 0):
            kept = memory.keep(given)
        if kept is None:
            refused += 1
            memory.release(held.pop(dice.randrange(len(held)))[1])
        else:
            held.append((given, kept))
            assert kept.data_ptr() % 64 == 0
        if number % 50 == 49:
            for _ in range(len(held) // 2):
                memory.release(held.pop(dice.randrange(len(held)))[1])
        assert all(torch.equal(given, kept) for given, kept in held)
    assert refused
    assert sum(block.memory.numel() for block in memory._blocks) <= 20_000


def test_released_places_serve_other_sizes(small_blocks):
    memory = Arena(8192)
    first = [memory.keep(torch.randn(256)) for _ in range(8)]
    assert None not in first
    assert memory.keep(torch.randn(256)) is None
    for number in (6, 1, 3, 2, 0):
        memory.release(first[number])
    assert memory.keep(torch.randn(1024)) is not None  # where 0 to 3 were
    assert memory.keep(torch.randn(512)) is None
    memory.release(first[5])
    assert memory.keep(torch.randn(512)) is not None
    assert memory.keep(torch.randn(1)) is None


def test_a_tensor_larger_than_a_block_has_one_of_its_own(small_blocks):
    memory, large = Arena(20_000), torch.randn(3000)
    assert torch.equal(memory.keep(large), large)
    assert memory.keep(torch.randn(2500)) is None
    assert memory.keep(torch.randn(1000)) is not None


def test_no_memory_keeps_nothing():
    assert Arena(0).keep(torch.randn(1)) is None
