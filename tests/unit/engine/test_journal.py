"""The record of finished shards: what it vouches for, and what it does not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import xxhash

from mergery.checkpoint.safetensors import TensorInfo
from mergery.engine.journal import JOURNAL_FILE, Journal, file_digests
from mergery.engine.shards import shard_layouts

VALUES = {
    "a": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b": np.arange(4, dtype=np.float32),
    "c": np.arange(5, dtype=np.float32) - 2,
}
LAYOUTS = shard_layouts((TensorInfo(name, "F32", v.shape, Path(), 0) for name, v in VALUES.items()), 40)


def digest(name: str) -> str:
    return xxhash.xxh3_128(VALUES[name].tobytes()).hexdigest()


KNOWN = {
    layout.file: {name: {"xxh3": digest(name), "inputs": ["f00"]} for name in layout.starts}
    for layout in LAYOUTS
}
FIRST, SECOND = KNOWN


@pytest.fixture
def staging(tmp_path) -> Path:
    """Two finished shards, and their record."""
    journal = Journal(tmp_path, "key")
    journal.begin({})
    for layout in LAYOUTS:
        (tmp_path / layout.file).write_bytes(layout.header + b"".join(VALUES[name] for name in layout.starts))
        journal.finish(layout.file, KNOWN[layout.file])
    return tmp_path


def test_what_was_finished_is_known_again(staging):
    assert Journal(staging, "key").verified(LAYOUTS) == KNOWN
    assert sorted(KNOWN[FIRST]) == ["a", "b"]
    for layout in LAYOUTS:
        expected = {name: digest(name) for name in layout.starts}
        assert file_digests(staging / layout.file, layout) == expected


def test_another_merges_record_is_not_read(staging):
    assert Journal(staging, "other").verified(LAYOUTS) == {}


def test_no_record_vouches_for_nothing(staging):
    (staging / JOURNAL_FILE).unlink()
    assert Journal(staging, "key").verified(LAYOUTS) == {}


def test_every_byte_of_a_file_counts(staging):
    file = staging / SECOND
    content = file.read_bytes()
    for place in range(len(content)):
        file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        assert list(Journal(staging, "key").verified(LAYOUTS)) == [FIRST]
    for other in (content[:-1], content + b"\0", b""):
        file.write_bytes(other)
        assert list(Journal(staging, "key").verified(LAYOUTS)) == [FIRST]
    file.unlink()
    assert list(Journal(staging, "key").verified(LAYOUTS)) == [FIRST]


def test_a_record_cut_at_any_byte_vouches_for_its_whole_lines(staging):
    content = (staging / JOURNAL_FILE).read_bytes()
    for length in range(len(content) + 1):
        (staging / JOURNAL_FILE).write_bytes(content[:length])
        whole = content[:length].count(b"\n") - 1
        assert list(Journal(staging, "key").verified(LAYOUTS)) == [FIRST, SECOND][: max(whole, 0)]


@pytest.mark.parametrize(
    "line", [b"\xff\xfe", b"[]", b"3", b'{"file": 3, "tensors": {}}', b'{"file": "x", "tensors": {"a": 3}}']
)
def test_lines_that_no_merge_wrote_are_passed_over(staging, line):
    first, rest = (staging / JOURNAL_FILE).read_bytes().split(b"\n", 1)
    (staging / JOURNAL_FILE).write_bytes(b"\n".join([first, rest + line, b""]))
    assert Journal(staging, "key").verified(LAYOUTS) == KNOWN


def test_a_new_beginning_keeps_what_is_kept(staging):
    journal = Journal(staging, "key")
    journal.begin({SECOND: KNOWN[SECOND]})
    assert journal.verified(LAYOUTS) == {SECOND: KNOWN[SECOND]}
    lines = [json.loads(line) for line in (staging / JOURNAL_FILE).read_text().splitlines()]
    assert lines == [{"merge": "key"}, {"file": SECOND, "tensors": KNOWN[SECOND]}]
    assert sorted(path.name for path in staging.iterdir()) == sorted([JOURNAL_FILE, FIRST, SECOND])
