"""mergekit in its own virtual environment: as a command, and as one process for many recipes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

__all__ = ["ENVIRONMENT", "Peer", "command", "ensure"]

HERE = Path(__file__).resolve().parent
PYTHON = HERE / ".venv-mergekit" / "bin" / "python"
SCRIPT = HERE / "run_mergekit.py"
# mergekit's model card asks the hub about every model, even of a directory: without a network, waiting for
# that would count as merging. And Python keeps what it compiles, as it does by itself: where a variable
# forbids that, a tool that runs from its sources would compile them each time.
ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": ""}


def ensure() -> None:
    """Make the environment if it is not there."""
    if not PYTHON.exists():
        subprocess.run([HERE / "peers.sh"], check=True)


def command(*arguments: str | Path) -> list[str]:
    """The wrapper with arguments."""
    return [str(PYTHON), str(SCRIPT), *map(str, arguments)]


class Peer:
    """One process of mergekit that merges one recipe after another.

    Attributes:
        methods: the names of the methods that it has.
    """

    methods: Sequence[str]

    def __init__(self, log: Path) -> None:
        self._log = log.open("w")
        self._process = subprocess.Popen(
            command("--jobs"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True
        )
        self.methods = self._reply()["methods"]

    def merge(self, recipe: Path, out: Path, seed: int, *, wide: bool = False) -> str | None:
        """Merge one recipe; what went wrong, if anything did.

        Args:
            recipe: its file.
            out: the directory to write.
            seed: of the masks.
            wide: whether methods that choose by sums take these in float64.
        """
        assert self._process.stdin is not None
        job = {"recipe": str(recipe), "out": str(out), "seed": seed, "wide": wide}
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return self._reply()["error"]

    def _reply(self) -> dict:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"mergekit ended: see {self._log.name}")
        return json.loads(line)

    def __enter__(self) -> Peer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()
        self._log.close()
