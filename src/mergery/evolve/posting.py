"""What opens a search's models, here or in a worker: plain data, which travels."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from mergery.checkpoint import Checkpoint, ModelRef
from mergery.errors import CheckpointError
from mergery.evolve.builders import MergeBuilder, PathBuilder
from mergery.evolve.exam import Exam
from mergery.evolve.examiner import Examiner
from mergery.evolve.launchers.worker import Place
from mergery.evolve.ledger import Ledger
from mergery.evolve.opening import Search
from mergery.evolve.paths.joint import JointSpace
from mergery.evolve.paths.space import PathSpace
from mergery.evolve.slopes import Slopes
from mergery.evolve.space import SearchSpace

__all__ = ["Posting"]


@dataclass(frozen=True)
class Posting:
    """What must be known to examine a search's candidates.

    Attributes:
        models: every one that candidates are made of.
        space: where the search looks.
        gradients: whether they are wanted.
        exam: what candidates are asked.
        inputs: digest of the models' content.
        state: of the models' files, by their sizes and times, which is quick to look at.
    """

    models: tuple[ModelRef, ...]
    space: SearchSpace | PathSpace | JointSpace
    gradients: bool
    exam: Exam
    inputs: str
    state: str

    @classmethod
    def of(cls, checked: Search, inputs: str) -> Posting:
        """The posting of a search whose models have this digest."""
        gradients = checked.problem.gradients
        return cls(checked.models, checked.space, gradients, checked.exam, inputs, _state(checked.models))

    def builder(self, device: str) -> MergeBuilder | PathBuilder:
        """What builds candidates on a device."""
        if isinstance(self.space, SearchSpace):
            return MergeBuilder(self.space.starts[0], device=device)
        return PathBuilder(self.space.models, device=device)

    def examiner(self, builder: MergeBuilder | PathBuilder, ledger: Ledger) -> Examiner:
        """Who asks candidates the exam."""
        slopes = None
        if self.gradients and isinstance(builder, MergeBuilder) and isinstance(self.space, SearchSpace):
            slopes = Slopes(builder.live, self.space)
        return Examiner(builder, self.exam, ledger, self.inputs, slopes)

    def __call__(self, place: Place, ledger: Ledger) -> Examiner:
        """Open the models in a worker.

        Raises:
            CheckpointError: if the worker sees other models than the search began with.
        """
        import torch
        from transformers.utils.logging import disable_progress_bar

        if _state(self.models) != self.state:
            raise CheckpointError(
                "a worker sees other models than the search began with",
                fix="let nothing write to the models; on a cluster, keep them where all machines see the "
                "same files",
            )
        disable_progress_bar()  # type: ignore[no-untyped-call]
        torch.set_num_threads(place.threads)
        return self.examiner(self.builder(place.device), ledger)


def _state(models: Sequence[ModelRef]) -> str:
    seen = hashlib.sha256()
    for model in models:
        for file in Checkpoint.open(model).files:
            status = file.stat()
            seen.update(f"{file.name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return seen.hexdigest()
