"""A search's output directory: whose it is, what lies where, and that one process at a time works there."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mergery.engine.output import check_free, staged_directory
from mergery.errors import OutputError, RecipeError, StudyError
from mergery.evolve.search import SearchSpec

__all__ = ["Home", "write_whole"]

_ENDS = ("trials", "budget")
"""What may grow when a search goes on."""

_FREE = (*_ENDS, "workers", "launcher", "timeout", "preference")
"""What may change when a search goes on: how long it is, where its trials run, what is picked."""


@dataclass(frozen=True)
class Home:
    """Where a search lives.

    ::

        OUT/study/search.yml      the search file, in canonical form
        OUT/study/journal.log     its trials (Optuna)
        OUT/study/name            or, where a database holds them, their study's name there
        OUT/study/ledger.sqlite   the outcomes behind them
        OUT/best.yml              the best recipe
        OUT/model/                its model
        OUT/report.json           what it scores
        OUT/search.png            how it was found
        OUT/sensitivity.png       what mattered
        OUT/front/                the recipes that no other beats, of a search for several objectives
        OUT/front.json            what they score
        OUT/front.png             the same as a picture

    Attributes:
        out: the directory that the user named.
    """

    out: Path

    @property
    def search(self) -> Path:
        """The search file."""
        return self.out / "study" / "search.yml"

    @property
    def journal(self) -> Path:
        """The trials."""
        return self.out / "study" / "journal.log"

    @property
    def name(self) -> Path:
        """The study's name, of a search whose trials are in a database."""
        return self.out / "study" / "name"

    @property
    def ledger(self) -> Path:
        """The outcomes behind them."""
        return self.out / "study" / "ledger.sqlite"

    @property
    def best(self) -> Path:
        """The best recipe."""
        return self.out / "best.yml"

    @property
    def model(self) -> Path:
        """The best recipe's model."""
        return self.out / "model"

    @property
    def report(self) -> Path:
        """What the best model scores."""
        return self.out / "report.json"

    @property
    def chart(self) -> Path:
        """How it was found."""
        return self.out / "search.png"

    @property
    def sensitivity(self) -> Path:
        """What mattered."""
        return self.out / "sensitivity.png"

    @property
    def front(self) -> Path:
        """The recipes that no other beats."""
        return self.out / "front"

    @property
    def front_file(self) -> Path:
        """What they score."""
        return self.out / "front.json"

    @property
    def front_chart(self) -> Path:
        """The same as a picture."""
        return self.out / "front.png"

    def check(self, spec: SearchSpec, size: int = 0) -> None:
        """Make sure that ``out`` can be made, or is this search's own. Touches nothing.

        Args:
            spec: the search that wants it.
            size: bytes that a model takes.

        Raises:
            OutputError: if it holds something that no search put there.
            StudyError: if it holds another search.
        """
        if not self.search.is_file():
            check_free(self.out, size)
            return
        owner = self.owner()
        known, wanted = owner.to_dict(), spec.to_dict()
        for section in dict.fromkeys([*known, *wanted]):
            old, new = (_fixed(data.get(section)) for data in (known, wanted))
            if old != new:
                raise StudyError(
                    f"{self.out}: holds a search with another {section}: section",
                    fix=f"choose another output directory; of a search only {', '.join(_FREE)} may change",
                )
        for name in _ENDS:
            before, now = getattr(owner.search, name), getattr(spec.search, name)
            if before is not None and now is not None and now < before:
                raise StudyError(
                    f"search.{name}: {self.out} holds a search of {before}, got {now}",
                    fix=f"ask for {before} or more",
                )

    @contextmanager
    def claim(self, spec: SearchSpec) -> Iterator[None]:
        """Make the directory, or continue in it, with no other process there.

        The directory appears together with its search file or not at all.

        Raises:
            OutputError: if another process is working there.
        """
        if not self.search.is_file():
            with staged_directory(self.out) as staging:
                study = staging / "study"
                study.mkdir()
                (study / "search.yml").write_text(spec.to_yaml(), encoding="utf-8")
        descriptor = os.open(self.search.parent, os.O_RDONLY)
        try:
            self._lock(descriptor)
            if self.search.read_text(encoding="utf-8") != spec.to_yaml():
                write_whole(self.search, spec.to_yaml())
            yield
        finally:
            os.close(descriptor)

    def _lock(self, descriptor: int) -> None:
        """Take the directory for this process; the system frees it when the process ends, however it ends."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as problem:
            raise OutputError(f"{self.out}: another search is running there", fix="wait for it") from problem

    def owner(self) -> SearchSpec:
        """The search that the directory belongs to.

        Raises:
            StudyError: if its search file is not one any more.
        """
        try:
            return SearchSpec.load(self.search)
        except RecipeError as problem:
            raise StudyError(
                f"{self.search}: no longer a search file: {problem.message}",
                fix="restore it, or choose another directory",
            ) from problem


def write_whole(path: Path, text: str) -> None:
    """Write a text file that is never seen half-written, not even after a power cut."""
    part = path.with_name(f".{path.name}.partial")
    with part.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    part.replace(path)


def _fixed(section: object) -> object:
    """What may not change."""
    if isinstance(section, dict):
        return {key: value for key, value in section.items() if key not in _FREE}
    return section
