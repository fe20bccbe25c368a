"""A command as a whole process: seconds by the wall, seconds of processors, the peak of anonymous memory."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Measured", "measure"]

SAMPLE_S = 0.02
TREE_S = 0.2  # between looks for new children, which cost more than a look at those that are known


@dataclass(frozen=True)
class Measured:
    """What a process took.

    Attributes:
        code: its exit status; negative if a signal ended it.
        wall: seconds from start to end.
        cpu: seconds of processors, of it and of its children, in user and system mode.
        anonymous: most bytes of anonymous and shared memory that it and its children held at a time;
            mapped files do not count.
        error: why it was ended, or the last line of its standard error, but for the fix that ours propose.
        output: its standard output.
    """

    code: int
    wall: float
    cpu: float
    anonymous: int
    error: str
    output: str


def measure(
    command: Sequence[str | Path],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    limit_s: float | None = None,
    limit_bytes: int | None = None,
) -> Measured:
    """Run a command to its end, or to a limit.

    Args:
        command: what to run.
        cwd: where.
        env: variables beside this process's own.
        limit_s: seconds after which it is ended.
        limit_bytes: anonymous memory above which it is ended.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        begin = time.perf_counter()
        process = subprocess.Popen(
            [str(part) for part in command],
            cwd=cwd,
            env={**os.environ, **(env or {})},
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
        watch = _Watch(process.pid, limit_s, limit_bytes)
        watch.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            watch.kill()
            os.wait4(process.pid, 0)
            raise
        finally:
            watch.stop()
        wall = time.perf_counter() - begin
        process.returncode = os.waitstatus_to_exitcode(status)
        lines = [line for line in _text(err).strip().splitlines() if not line.startswith("fix: ")]
        return Measured(
            code=process.returncode,
            wall=wall,
            cpu=usage.ru_utime + usage.ru_stime,
            anonymous=watch.peak,
            error=watch.reason or (lines[-1] if lines else ""),
            output=_text(out),
        )


def _text(file: tempfile._TemporaryFileWrapper[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


class _Watch(threading.Thread):
    """Looks at a process and its children until told to stop."""

    def __init__(self, root: int, limit_s: float | None, limit_bytes: int | None) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        self.reason = ""
        self._root = root
        self._limit_s, self._limit_bytes = limit_s, limit_bytes
        self._ended = threading.Event()

    def run(self) -> None:
        begin = looked = time.monotonic()
        family = [self._root]
        while not self._ended.wait(SAMPLE_S):
            now = time.monotonic()
            if now - looked > TREE_S:
                family, looked = _family(self._root), now
            held = sum(_anonymous(pid) for pid in family)
            self.peak = max(self.peak, held)
            if self._limit_bytes and held > self._limit_bytes:
                self._end(f"ended: more than {self._limit_bytes / 2**20:.0f} MiB of anonymous memory")
            if self._limit_s and now - begin > self._limit_s:
                self._end(f"ended: more than {self._limit_s:.0f} s")

    def stop(self) -> None:
        self._ended.set()
        self.join()

    def kill(self) -> None:
        """End the whole session that the process was started in."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._root, signal.SIGKILL)

    def _end(self, reason: str) -> None:
        if not self.reason:
            self.reason = reason
            self.kill()


def _anonymous(pid: int) -> int:
    """Bytes of anonymous and shared memory of one process; 0 if it has ended."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    return sum(1024 * int(fields[name].split()[0]) for name in ("RssAnon", "RssShmem") if name in fields)


def _family(root: int) -> list[int]:
    """A process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except (OSError, IndexError):
                continue
            children.setdefault(parent, []).append(int(entry.name))
    family = [root]
    for pid in family:
        family += children.get(pid, [])
    return family
