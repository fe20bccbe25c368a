"""What a search will cost, before it begins: time, memory, disk, trials; nothing is written."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mergery.engine import make_plan
from mergery.engine.estimate import expected_seconds
from mergery.evolve.confirm import confirm_cost
from mergery.evolve.front import front_cost
from mergery.evolve.home import Home
from mergery.evolve.opening import Search
from mergery.evolve.paths.space import PathSpace
from mergery.evolve.search import SearchSpec
from mergery.evolve.space import SearchSpace
from mergery.recipe import Recipe

if TYPE_CHECKING:
    from mergery.evolve.pace import Workshop

__all__ = ["Forecast", "forecast"]

_LEDGER_ROW = 85
"""Bytes of one outcome in a ledger."""

_JOURNAL_TRIAL, _JOURNAL_NUMBER = 1000, 170
"""Bytes of a trial in a journal, and of each of its dimensions there."""


@dataclass(frozen=True)
class Forecast:
    """What a search will cost.

    Attributes:
        out: its directory.
        algorithm: its algorithm.
        dimensions: of its space.
        trials: how many there will be, those that are done included.
        done: how many of them are done.
        gradients: how many are gradients.
        given_up: how many are given up before they were asked all items.
        item_evaluations: of searching, confirming and reporting.
        seconds: of opening, searching, confirming and reporting.
        workers: trials at a time.
        candidate_seconds: what one candidate takes that is asked all items.
        memory: bytes at most, of all processes together.
        model_bytes: of the model.
        record_bytes: of the record of the trials, about.
    """

    out: Path
    algorithm: str
    dimensions: int
    trials: int
    done: int
    gradients: int
    given_up: int
    item_evaluations: Mapping[str, int]
    seconds: Mapping[str, float]
    workers: int
    candidate_seconds: float
    memory: int
    model_bytes: int
    record_bytes: int

    @property
    def total_seconds(self) -> float:
        """From the beginning to the report."""
        return sum(self.seconds.values())

    def to_dict(self) -> dict[str, object]:
        """Plain data for JSON."""
        return asdict(self) | {"out": str(self.out), "total_seconds": self.total_seconds}


def forecast(
    search: SearchSpec | Path | str,
    out: Path | str,
    *,
    device: str = "cpu",
    workers: int | None = None,
    launcher: str | None = None,
) -> tuple[Forecast, ...]:
    """Check a search, try a few of its candidates, and say what it will cost; nothing is written.

    Args:
        search: the search, or the path of its YAML file.
        out: its directory; trials that are there already are not counted again.
        device: where to merge and score.
        workers: in place of ``search.workers``.
        launcher: in place of ``search.launcher``.

    Returns:
        One forecast; two for a recipe and a path after it.

    Raises:
        MergeryError: if the search, a model, the items or the directory is at fault.
    """
    spec = search if isinstance(search, SearchSpec) else SearchSpec.load(search)
    spec = spec.launched(workers=workers, launcher=launcher)
    if not spec.staged:
        return (_forecast(spec, Home(Path(out)), device),)
    first = spec.weights_only()
    # what the path will be searched in is not known yet; where the first search begins has the same size
    second = spec.paths_with(Search.open(first).start)
    return (
        _forecast(first, Home(Path(out) / "weights"), device),
        _forecast(second, Home(Path(out) / "paths"), device),
    )


def _forecast(spec: SearchSpec, home: Home, device: str) -> Forecast:
    begin = time.perf_counter()
    checked = Search.open(spec)
    plan = make_plan(checked.start)
    home.check(checked.spec, plan.bytes_written)

    from mergery.evolve.pace import measure
    from mergery.evolve.rehearsal import rehearse
    from mergery.evolve.session import Session

    session = Session(checked, home, device=device)
    opening = time.perf_counter() - begin
    done = _done(home)
    with session.unwritten():
        workshop = measure(session)
        played = rehearse(session, workshop, done)
    finalists = min(checked.finalists, max(1, played.whole))
    reporting, seconds = _reporting(checked, workshop, finalists)
    confirming, confirm_seconds = _confirming(checked, workshop, finalists)
    exam, dimensions = checked.exam, checked.problem.dimensions
    evaluations = {"searching": played.items, "confirming": confirming, "reporting": reporting}
    return Forecast(
        out=home.out,
        algorithm=checked.kind.name,
        dimensions=dimensions,
        trials=played.trials,
        done=done,
        gradients=played.gradients,
        given_up=played.given_up,
        item_evaluations=evaluations,
        seconds={
            "opening": opening,
            "searching": played.seconds,
            "confirming": confirm_seconds,
            "reporting": seconds + expected_seconds(plan),
        },
        workers=workshop.slots,
        candidate_seconds=workshop.there.build + workshop.there.item * len(exam),
        memory=workshop.memory,
        model_bytes=plan.bytes_written,
        record_bytes=_LEDGER_ROW * sum(evaluations.values())
        + played.trials * (_JOURNAL_TRIAL + _JOURNAL_NUMBER * dimensions),
    )


def _done(home: Home) -> int:
    """Trials that a search has behind it."""
    if not home.search.is_file():
        return 0
    from mergery.evolve.reading import StudyReading

    return sum(trial.told is not None for trial in StudyReading.open(home.out).trials)


def _confirming(checked: Search, workshop: Workshop, finalists: int) -> tuple[int, float]:
    """Item evaluations and seconds of confirming what was found."""
    if checked.confirm is None:
        return 0, 0.0
    ends = checked.confirm.ends
    cost = (front_cost if checked.exam.objectives else confirm_cost)(finalists, ends)
    pace = workshop.here
    # a finalist is built again for each rung
    seconds = cost * pace.item + finalists * len(ends) * pace.build
    cold = 0.0 if workshop.there is pace else pace.begin
    return cost, seconds + cold + len(checked.confirm) * workshop.prepare


def _reporting(checked: Search, workshop: Workshop, finalists: int) -> tuple[int, float]:
    """Item evaluations and seconds of the report: the model, its ingredients, plain merges, the front."""
    searched, judged = len(checked.exam), len(checked.test)
    stored, plain, scales = 1 + len(checked.models), 0, 0
    if isinstance(checked.space, PathSpace):
        plain = int(isinstance(checked.space.models[0], Recipe))  # the donor as it is
    else:
        from mergery.evolve.references import task_arithmetic, uniform

        weights = checked.space if isinstance(checked.space, SearchSpace) else checked.space.weights
        scales = len(list(task_arithmetic(weights)))
        plain = (uniform(weights) is not None) + (scales > 0)
    front = finalists if checked.exam.objectives else 0
    cost = (
        stored * (searched + judged) + (plain > 0) * searched + scales * searched + (plain + front) * judged
    )
    pace = workshop.here
    seconds = cost * pace.item + (scales + 2 * plain + front) * pace.build
    # each exam gets its items ready anew; a model is loaded once for each exam
    seconds += (stored * (searched + judged) + (plain + (front > 0)) * judged) * workshop.prepare
    seconds += 2 * stored * workshop.load
    return cost, seconds + _resampled(checked, stored + plain, front) * workshop.interval + workshop.pictures


def _resampled(checked: Search, contestants: int, front: int) -> int:
    """Items in the bootstraps of a report: of the scores, and of what the best is better by."""
    searched, judged = len(checked.exam), len(checked.test)
    sections = checked.test.sections
    differences = (contestants + 1 + (len(sections) > 1)) * judged
    proportions = [section.evaluator.proportion for section in sections]
    means = 0 if proportions == [True] else contestants * (searched + judged)
    return differences + means + (0 if all(proportions) else front * 2 * judged)
