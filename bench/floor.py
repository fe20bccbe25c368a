"""The least that a merge can take: its inputs read and its output written, with plain calls and one buffer.

Run as a process of its own, like what it is compared with: ``python bench/floor.py [--fsync] OUT IN...``.
What is written has the size of the last input.
"""

from __future__ import annotations

import os
import sys

BLOCK = 8 << 20


def main() -> None:
    """Read, then write."""
    options = sys.argv[1:]
    durable = options[0] == "--fsync"
    out, *inputs = options[durable:]
    buffer = bytearray(BLOCK)
    size = 0
    for path in inputs:
        file = os.open(path, os.O_RDONLY)
        size = 0
        while got := os.preadv(file, [buffer], size):
            size += got
        os.close(file)
    file = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    view = memoryview(buffer)
    done = 0
    while done < size:
        done += os.pwrite(file, view[: min(BLOCK, size - done)], done)
    if durable:
        os.fsync(file)
    os.close(file)


if __name__ == "__main__":
    main()
