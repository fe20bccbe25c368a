"""The real command line, with a witness of what it asks of the disk, who can end or stop it at any moment.

``python tests/interrupted.py LOG ACTION COUNT PATTERN ARGUMENT...`` runs ``mergery ARGUMENT...``. Before
each call that reads or changes a file it writes a line ``call path [place size]`` to LOG; before the
COUNT-th whose line the regular expression PATTERN finds, it does ACTION to itself: ``kill`` (SIGKILL),
``half`` (the same, after one half of the bytes has been written) or ``stop`` (SIGSTOP).
"""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from pathlib import Path

BY_DESCRIPTOR = ("pwrite", "preadv", "fsync", "posix_fallocate")
BY_PATH = ("open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.truncate")
WRITING = os.O_WRONLY | os.O_RDWR


class Witness:
    def __init__(self, log: str, action: str, count: str, pattern: str) -> None:
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._action, self._left, self._pattern = action, int(count), re.compile(pattern)
        self._lock = threading.Lock()

    def see(self, line: str, half=lambda: None) -> None:
        with self._lock:
            os.write(self._log, line.encode() + b"\n")
            self._left -= bool(self._pattern.search(line))
            due, self._left = self._left == 0, self._left or -1
        if due:
            if self._action == "half":
                half()
            os.kill(os.getpid(), signal.SIGSTOP if self._action == "stop" else signal.SIGKILL)

    def wrapped(self, name: str):
        call = getattr(os, name)

        def witnessed(descriptor, *arguments):
            path = Path(f"/proc/self/fd/{descriptor}").readlink()
            if name in ("pwrite", "preadv"):
                content, place = arguments
                parts = [content] if name == "pwrite" else content
                line = f"{name} {path} {place} {sum(memoryview(part).nbytes for part in parts)}"
                self.see(
                    line, lambda: name == "pwrite" and call(descriptor, content[: len(content) // 2], place)
                )
            else:
                self.see(f"{name} {path}")
            return call(descriptor, *arguments)

        return witnessed

    def audited(self, event: str, arguments) -> None:
        if event not in BY_PATH or isinstance(arguments[0], int):
            return
        if event == "open" and not (arguments[2] & WRITING):
            return
        self.see(f"{event} {os.fsdecode(arguments[0])}")


def main() -> None:
    witness = Witness(*sys.argv[1:5])
    for name in BY_DESCRIPTOR:
        setattr(os, name, witness.wrapped(name))
    sys.addaudithook(witness.audited)
    sys.argv[1:] = sys.argv[5:]
    from mergery.cli import main as command

    command()


if __name__ == "__main__":
    main()
