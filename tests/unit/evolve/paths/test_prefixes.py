from __future__ import annotations

import random

import pytest
import torch

from mergery.evolve.paths import AlignedEncoding, Hop, Path
from mergery.evolve.paths.prefixes import PrefixStates

SLOTS = 32
BATCHES = (b"one", b"two", b"three")
SIZES = {b"one": 256, b"two": 64, b"three": 128}


def local_search(
    seed: int, changes: tuple[int, ...], candidates: int, accepted: float, *, together: bool = False
) -> list[Path]:
    """A choice of every slot; each candidate changes a few, and some are taken as the new incumbent."""
    dice = random.Random(seed)
    encoding = AlignedEncoding((SLOTS, SLOTS), gains=None, longest=2.0)
    incumbent, paths = ["model 0"] * SLOTS, []
    for _ in range(candidates):
        changed = list(incumbent)
        count = dice.choice(changes)
        first = dice.randrange(SLOTS - count + 1)
        for slot in range(first, first + count) if together else dice.sample(range(SLOTS), count):
            changed[slot] = dice.choice([word for word in encoding.choices if word != changed[slot]])
        paths.append(encoding.path(changed))
        if dice.random() < accepted:
            incumbent = changed
    return paths


def run(states: PrefixStates, path: Path, batch: bytes, size: int) -> int:
    """One pass as the live model makes it; how many layers it ran."""
    keys = states.enter(path) if batch == BATCHES[0] else run.keys
    run.keys = keys
    known, _ = states.longest(keys, batch)
    for key in keys[known:]:
        states.offer(key, batch, torch.empty(size, dtype=torch.uint8))
    return len(keys) - known


def share_saved(paths: list[Path], states_of_one_path: float) -> float:
    unit = sum(SIZES.values())
    limit = int(states_of_one_path * SLOTS * unit)
    states, done = PrefixStates(limit), 0
    for path in paths:
        for batch in BATCHES:
            done += run(states, path, batch, SIZES[batch])
            assert states.size <= limit
    return 1 - done / sum(len(path) * len(BATCHES) for path in paths)


def test_a_state_is_found_behind_the_longest_prefix_it_fits():
    states = PrefixStates(10_000)
    path = Path(tuple(Hop(0, layer, 0.5) for layer in range(4)))
    keys = states.enter(path)
    kept = [torch.full((4,), depth) for depth in range(4)]
    for key, state in zip(keys, kept, strict=True):
        states.offer(key, b"batch", state)
    assert states.longest(keys, b"batch")[0] == 4
    assert states.longest(keys, b"other") == (0, None)
    for hops, shared in (
        ((*path.hops[:2], Hop(0, 2)), 2),
        ((*path.hops, Hop(1, 0)), 4),
        ((Hop(1, 0, 0.5), *path.hops[1:]), 0),
    ):
        depth, state = states.longest(states.enter(Path(hops)), b"batch")
        assert depth == shared
        assert state is None if shared == 0 else torch.equal(state, kept[shared - 1])


@pytest.mark.parametrize(
    ("changes", "together", "least"),
    [
        ((1,), False, 0.5),
        ((2,), False, 0.33),
        ((3,), False, 0.25),
        ((1, 1, 2, 3), False, 0.4),
        ((1, 2, 3), True, 0.43),
    ],
)
def test_local_search_runs_fewer_layers(changes, together, least):
    """A share 1 / (changes + 1) is before the first of changes anywhere, nearly half before neighbours."""
    saved = [share_saved(local_search(seed, changes, 150, 0.05, together=together), 200) for seed in range(2)]
    assert sum(saved) / 2 > least


def test_with_room_for_all_each_prefix_is_run_once():
    paths = local_search(1, (1, 2, 3), 80, 0.1)
    prefixes = dict.fromkeys(path.hops[:length] for path in paths[-64:] for length in range(1, len(path) + 1))
    states, done = PrefixStates(10**9), 0
    for number, path in enumerate(paths):
        runs = [run(states, path, batch, SIZES[batch]) for batch in BATCHES]
        assert runs[0] == runs[1] == runs[2]
        done += runs[0] if number >= len(paths) - 64 else 0
    assert done <= len(prefixes)


@pytest.mark.parametrize(("room", "least"), [(2.0, 0.42), (0.5, 0.34), (0.25, 0.3)])
def test_scarce_memory_goes_to_the_path_that_is_varied(room, least):
    saved = [share_saved(local_search(seed, (1,), 150, 0.05), room) for seed in range(2)]
    assert sum(saved) / 2 > least


def test_no_memory_keeps_nothing():
    assert share_saved(local_search(0, (1,), 5, 0.1), 0) == 0.0


def test_batches_of_yesterday_make_room():
    states, paths = PrefixStates(SLOTS * 2 * sum(SIZES.values())), local_search(0, (1,), 60, 0.05)
    for path in paths[:30]:
        for batch in BATCHES:
            run(states, path, batch, SIZES[batch])
    done = 0
    for path in paths[30:]:
        keys = states.enter(path)
        known, _ = states.longest(keys, b"new")
        done += len(keys) - known
        for key in keys[known:]:
            states.offer(key, b"new", torch.empty(384, dtype=torch.uint8))
    assert done < 0.7 * sum(map(len, paths[30:]))
