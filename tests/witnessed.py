"""Merges by the real command line, seen, stopped and killed from outside: see ``interrupted.py``."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

SCRIPT = Path(__file__).with_name("interrupted.py")
NEVER = "(?!)"
SHARD_GB = "0.001"
"""The smallest that the command line takes."""
FILES = tuple(f"model-0000{number}-of-00004.safetensors" for number in (1, 2, 3, 4))
"""What it makes of the models below."""


@dataclass(frozen=True)
class Ended:
    """A run of the command line that has ended."""

    code: int
    complained: str
    events: tuple[str, ...]

    @property
    def written(self) -> set[str]:
        """Names of the weight files into which it wrote tensors: behind the header."""
        events = (event.split() for event in self.events if event.startswith("pwrite"))
        return {Path(path).name for _, path, place, _ in events if place != "0"}


@dataclass(frozen=True)
class Merging:
    """One merge; each run of it is the same command."""

    recipe: Path
    out: Path
    threads: int = 1

    @property
    def staging(self) -> Path:
        return self.out.parent / f".{self.out.name}.partial"

    @property
    def recorded(self) -> set[str]:
        """The weight files that the journal speaks of, in lines that are whole."""
        journal = self.staging / "merge.journal"
        lines = journal.read_text().split("\n")[1:-1] if journal.exists() else []
        return {json.loads(line)["file"] for line in lines}

    def run(self, action: str = "kill", count: int = 1, pattern: str = NEVER) -> Ended:
        with self.running(action, count, pattern) as process:
            return self.ended(process)

    @contextmanager
    def running(self, action: str, count: int, pattern: str) -> Iterator[subprocess.Popen]:
        """Start it; it is killed at the end of the block, if it has not ended by then."""
        self.out.parent.mkdir(exist_ok=True)
        self._log.unlink(missing_ok=True)
        command = [sys.executable, SCRIPT, self._log, action, str(count), pattern, "merge", self.recipe]
        command += [self.out, "--threads", str(self.threads), "--shard-size", SHARD_GB]
        # a process that is killed counts no coverage, and without counting it takes a third of the time
        env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
        with subprocess.Popen(
            command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def ended(self, process: subprocess.Popen) -> Ended:
        """What has become of a process that ends by itself."""
        _, complained = process.communicate(timeout=120)
        return Ended(process.returncode, complained, self._events())

    @property
    def _log(self) -> Path:
        return self.recipe.parent / f"{self.out.parent.name}-{self.out.name}.log"

    def _events(self) -> tuple[str, ...]:
        """What it asked of the disk, in its own place only."""
        lines = self._log.read_text().splitlines()
        return tuple(line for line in lines if re.search(self.place, line))

    @property
    def place(self) -> str:
        """A pattern for what happens to the directory, and inside."""
        return f" ({re.escape(str(self.staging))}|{re.escape(str(self.out))})"


def wait_until_stopped(process: subprocess.Popen) -> bool:
    """Wait for the SIGSTOP that a process sends itself; ``False`` if it has ended without one."""
    status = os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    return status.si_code == os.CLD_STOPPED


def write_models(home: Path, tokenizer: PreTrainedTokenizerFast) -> list[Path]:
    """A base and two experts near it, in float32: 3.7 MB each, the last one in two files."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=160,
        intermediate_size=320,
        num_hidden_layers=4,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=64,
        tie_word_embeddings=True,
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    for name, shard in (("base", "5GB"), ("one", "5GB"), ("two", "2MB")):
        model.save_pretrained(home / name, max_shard_size=shard)
        tokenizer.save_pretrained(home / name)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += 0.05 * torch.randn_like(parameter)
    return [home / name for name in ("base", "one", "two")]


def write_recipe(home: Path, models: list[Path], **changes: object) -> Path:
    """A recipe that merges them, in ``home``."""
    base, *experts = map(str, models)
    data = {"merge_method": "task_arithmetic", "base_model": base, "parameters": {"weight": 0.5}}
    data |= {"models": [{"model": expert} for expert in experts]}
    path = home / "recipe.yml"
    path.write_text(yaml.safe_dump(data | changes))
    return path


def contents(directory: Path) -> Mapping[str, bytes]:
    """Every file of a model."""
    return {file.name: file.read_bytes() for file in sorted(directory.iterdir())}


def finishes(merging: Merging, kept: set[str], whole: Mapping[str, bytes]) -> None:
    """The same command again gives the same bytes, writes only what is not kept, and tidies up."""
    assert not merging.out.exists()
    ended = merging.run()
    assert (ended.code, ended.complained) == (0, "")
    assert ended.written == set(FILES) - kept
    assert contents(merging.out) == whole
    assert [path.name for path in merging.out.parent.iterdir()] == ["out"]


def fill(place: Path) -> None:
    """Leave not one byte free on a file system."""
    with (place / "filler").open("wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            return


@contextmanager
def small_disk(place: Path) -> Iterator[Path]:
    """A file system of its own at ``place``, of 8 MB; without the permission for one, the test is skipped."""
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", place]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("no permission to mount")
    try:
        yield place
    finally:
        subprocess.run(["umount", place], check=True)
