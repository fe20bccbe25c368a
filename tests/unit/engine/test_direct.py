"""Output files written past the cache: the bytes are where they belong, whatever the borders and the disk."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from mergery.engine.direct import OutputFile, Stream

MIB = 1 << 20


def blank(path: Path, size: int) -> Path:
    path.write_bytes(b"\xee" * size)
    return path


def drawn(size: int, seed: int) -> bytes:
    return np.random.default_rng(seed).bytes(size)


def put(file: OutputFile, place: int, data: bytes, piece: int) -> None:
    stream = Stream(file, place)
    for start in range(0, len(data), piece):
        stream.write(memoryview(data)[start : start + piece])
    stream.close()


@pytest.mark.parametrize("place", [0, 1, 4095, 4096, 5000, 65536 + 8])
@pytest.mark.parametrize("size", [0, 1, 4096, MIB - 1, MIB + 4096, 4 * MIB, 9 * MIB + 17])
def test_a_stream_is_where_it_belongs_and_nowhere_else(tmp_path: Path, place: int, size: int) -> None:
    total = place + size + 12345
    path = blank(tmp_path / "file", total)
    data = drawn(size, place + size)
    file = OutputFile(path)
    put(file, place, data, piece=262_144)
    file.sync()
    file.close()
    assert path.read_bytes() == b"\xee" * place + data + b"\xee" * (total - place - size)


def test_threads_that_write_side_by_side_do_not_disturb_each_other(tmp_path: Path) -> None:
    sizes = [3 * MIB + 1, 17, 2 * MIB + 4000, 5 * MIB - 3, 4096, MIB + 9, 6 * MIB + 1, 2]
    parts = [drawn(size, index) for index, size in enumerate(sizes)]
    starts = [7 + sum(sizes[:index]) for index in range(len(sizes))]
    path = blank(tmp_path / "file", 7 + sum(sizes))
    file = OutputFile(path)
    threads = [
        threading.Thread(target=put, args=(file, start, part, 100_000))
        for start, part in zip(starts, parts, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    file.close()
    assert path.read_bytes() == b"\xee" * 7 + b"".join(parts)


def test_what_a_caller_does_with_its_buffer_afterwards_does_not_matter(tmp_path: Path) -> None:
    path = blank(tmp_path / "file", 3 * MIB)
    file = OutputFile(path)
    buffer = np.zeros(MIB, np.uint8)
    stream = Stream(file, 0)
    for value in (1, 2, 3):
        buffer[:] = value
        stream.write(buffer.data)
    buffer[:] = 9
    stream.close()
    file.close()
    assert path.read_bytes() == b"\1" * MIB + b"\2" * MIB + b"\3" * MIB


@pytest.mark.skipif(not os.access("/dev/shm", os.W_OK), reason="no file system in memory")
def test_a_file_system_in_memory(tmp_path: Path) -> None:
    path = Path("/dev/shm") / f"{tmp_path.name}-{os.getpid()}"
    data = drawn(5 * MIB + 11, 5)
    try:
        blank(path, len(data) + 1)
        file = OutputFile(path)
        put(file, 1, data, piece=70_001)
        file.close()
        assert path.read_bytes() == b"\xee" + data
    finally:
        path.unlink()


def test_a_disk_that_refuses_blocks_gets_them_through_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = blank(tmp_path / "file", 3 * MIB)
    file = OutputFile(path)
    if file._direct is None:
        pytest.skip("this file system takes no blocks")
    real, refused = os.pwrite, []

    def refusing(descriptor: int, data: memoryview, place: int) -> int:
        if descriptor == file._direct:
            refused.append(place)
            raise OSError(errno.EINVAL, "refused")
        return real(descriptor, data, place)

    monkeypatch.setattr(os, "pwrite", refusing)
    data = drawn(3 * MIB, 1)
    put(file, 0, data, piece=MIB)
    monkeypatch.undo()
    file.close()
    assert refused
    assert path.read_bytes() == data


def test_two_streams_of_one_thread_do_not_share_what_they_hold(tmp_path: Path) -> None:
    path = blank(tmp_path / "file", 4 * MIB)
    file = OutputFile(path)
    one, two = Stream(file, 0), Stream(file, 2 * MIB)
    parts = [drawn(2 * MIB, 1), drawn(2 * MIB, 2)]
    for start in range(0, 2 * MIB, MIB):
        for stream, part in zip((one, two), parts, strict=True):
            stream.write(memoryview(part)[start : start + MIB])
    one.close()
    two.close()
    file.close()
    assert path.read_bytes() == b"".join(parts)
