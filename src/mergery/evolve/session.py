"""A search at work: its models in memory, its record open, its directory held."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from types import TracebackType

from mergery.checkpoint import ModelRef
from mergery.evaluate.api import context_of
from mergery.evolve.builders import MergeBuilder, PathBuilder, StoredBuilder
from mergery.evolve.exam import Exam
from mergery.evolve.examiner import Examiner
from mergery.evolve.fitness import inputs_digest
from mergery.evolve.home import Home, write_whole
from mergery.evolve.launchers import Launcher, check_launcher, choose_launcher
from mergery.evolve.ledger import Ledger
from mergery.evolve.opening import Search
from mergery.evolve.posting import Posting
from mergery.evolve.record import Record
from mergery.evolve.study import Study
from mergery.evolve.trial import Progress, Trial

__all__ = ["Session"]


class Session:
    """Holds what a search works with. A context manager: inside it, the directory is this process's own.

    Args:
        checked: the search.
        home: its directory.
        device: where to merge and score.

    Raises:
        DataError: if an item cannot be asked of these models; nothing is written then.
        DeviceError: if there is no such device.
        MissingExtraError: if the search's launcher needs a package that is not installed.
    """

    def __init__(self, checked: Search, home: Home, *, device: str) -> None:
        self.checked, self.home, self.device = checked, home, device
        check_launcher(checked.spec.search, device)
        self._inputs = inputs_digest(checked.models)
        self._posting = Posting.of(checked, self._inputs)
        self._builder = self._posting.builder(device)
        for exam in (checked.exam, checked.confirm, checked.test):
            _check_items(self._builder, exam)
        self._stack = ExitStack()

    def __enter__(self) -> Session:
        with self._stack:
            self._stack.enter_context(self.home.claim(self.checked.spec))
            self._ledger = self._stack.enter_context(Ledger(self.home.ledger))
            self.examiner = self._posting.examiner(self._builder, self._ledger)
            self._held = self._stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        problem: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._held.close()

    @contextmanager
    def unwritten(self) -> Iterator[Session]:
        """Work as inside the session, with nothing kept: the directory is neither taken nor made."""
        with Ledger() as self._ledger:
            self.examiner = self._posting.examiner(self._builder, self._ledger)
            yield self

    def launcher(self) -> Launcher:
        """Where the search's settings have its trials run; close it in the end."""
        return choose_launcher(self.checked.spec.search, self.device, self.examiner, self._posting)

    def search(self, progress: Callable[[Progress], None] | None = None) -> tuple[Trial, ...]:
        """Try recipes until the budget is spent.

        Args:
            progress: told after every trial.
        """
        checked, name = self.checked, self.checked.identity(self._inputs)
        storage = checked.spec.search.storage
        if storage is not None:
            write_whole(self.home.name, name)
        record = Record(
            self.home.journal if storage is None else storage,
            name,
            directions=checked.exam.directions,
            names=checked.space.names,
            domains=checked.space.domains,
        )
        algorithm = checked.kind.start(checked.problem, checked.spec.search.for_algorithm)
        with closing(record), closing(self.launcher()) as launcher:
            study = Study(
                checked.space,
                algorithm,
                checked.exam,
                launcher,
                record,
                self.examiner.recall,
                references=checked.references,
                racing=checked.racing,
            )
            return study.run(checked.budget, progress)

    def examine(self, exam: Exam) -> Examiner:
        """Who asks merges in memory this exam."""
        return Examiner(self._builder, exam, self._ledger, self._inputs)

    def examine_stored(self, model: ModelRef, exam: Exam) -> Examiner:
        """Who asks a model directory this exam, as stock transformers loads it."""
        builder = StoredBuilder(model, device=self.device)
        return Examiner(builder, exam, self._ledger, f"stored {inputs_digest([model])}")


def _check_items(builder: MergeBuilder | PathBuilder, exam: Exam | None) -> None:
    """Make sure that every item can be asked."""
    for section in exam.sections if exam else ():
        section.evaluator.prepare(builder.tokenizer, section.items, context=context_of(builder.model))
