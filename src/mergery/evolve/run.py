"""A search from its file to its model."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from mergery.engine import make_plan, merge
from mergery.errors import StudyError
from mergery.evolve.home import Home, write_whole
from mergery.evolve.opening import Search
from mergery.evolve.search import SearchSpec
from mergery.evolve.trial import Progress, Trial, best_trial, best_trials
from mergery.recipe import Recipe

if TYPE_CHECKING:
    from mergery.evolve.confirm import Confirmed
    from mergery.evolve.front import Front
    from mergery.evolve.report import Report
    from mergery.evolve.session import Session

__all__ = ["Evolved", "evolve"]


@dataclass(frozen=True, eq=False)
class Evolved:
    """What a search found.

    Attributes:
        best: the best recipe.
        report: what its model and the ingredients score.
        trials: all trials, in order.
        directory: the output directory.
        model: the best recipe's model.
        recipe_file: the best recipe's YAML.
        report_file: the report as JSON.
        chart: a picture of the search.
        front: the recipes that no other beats; ``None`` of a search for one objective.
    """

    best: Recipe
    report: Report
    trials: tuple[Trial, ...]
    directory: Path
    model: Path
    recipe_file: Path
    report_file: Path
    chart: Path
    front: Front | None = None


def evolve(
    search: SearchSpec | Path | str,
    out: Path | str,
    *,
    device: str = "cpu",
    workers: int | None = None,
    launcher: str | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Evolved:
    """Search for the best recipe, and write its model.

    Every trial is on disk before the algorithm is told of it. Killed at any moment and called again with the
    same search and directory, it continues and ends where it would have ended; called again with more trials
    or a larger budget, it adds them. With several workers the order in which trials end is chance, and what
    comes after follows it; nothing that has ended is lost or done again.

    Args:
        search: the search, or the path of its YAML file.
        out: directory for the result; it must not exist, be empty, or be this search's own.
        device: where to merge and score (``cpu``, ``cuda``).
        workers: candidates asked at the same time, in place of ``search.workers``.
        launcher: ``processes`` or ``ray``, in place of ``search.launcher``.
        progress: told after every trial.

    Raises:
        MergeryError: if the search, a model, the items or the directory is at fault; found before the
            first trial, with nothing written.
        StudyError: if the directory holds another search, or every trial failed.
    """
    spec = search if isinstance(search, SearchSpec) else SearchSpec.load(search)
    if spec.staged:
        run = partial(evolve, device=device, workers=workers, launcher=launcher, progress=progress)
        first = run(spec.weights_only(), Path(out) / "weights")
        return run(spec.paths_with(first.best), Path(out) / "paths")
    checked = Search.open(spec.launched(workers=workers, launcher=launcher))
    home = Home(Path(out))
    home.check(checked.spec, make_plan(checked.start).bytes_written)

    from mergery.evolve.session import Session

    with Session(checked, home, device=device) as session:
        trials = session.search(progress)
        if not checked.exam.objectives:
            best, confirmed = choose(session, trials)
            return _finish(session, trials, best, confirmed)
        front = choose_front(session, trials)
        return _finish(session, trials, front.members[front.picked].trial, front.confirmed, front)


def choose(session: Session, trials: tuple[Trial, ...]) -> tuple[Trial, Confirmed | None]:
    """The best trial: of the finalists on items held back, or of all where none are."""
    from mergery.evolve.confirm import Finalist, confirm

    checked = session.checked
    best = best_trial(trials, checked.exam.direction)
    if best is None:
        raise _nothing(session, trials)
    if checked.confirm is None:
        return best, None
    finalists = []
    for trial in best_trials(trials, checked.exam.direction, checked.finalists):
        candidate = checked.candidate(trial)
        outcomes = session.examiner.recall(candidate, len(checked.exam)).outcomes
        finalists.append(Finalist(trial.number, candidate, checked.exam.losses(outcomes)))
    confirmed = confirm(finalists, session.examine(checked.confirm))
    return trials[confirmed.winner], confirmed


def choose_front(session: Session, trials: tuple[Trial, ...]) -> Front:
    """The trials that no other beats in every objective, on items held back where there are some."""
    from mergery.evolve.front import Entrant, confirm_front, front_of, spread
    from mergery.evolve.objectives import preferences

    checked = session.checked
    settings, exam = checked.spec.search, checked.exam
    preference = preferences(settings, tuple(checked.spec.tasks))
    found = front_of(trials, exam.directions)
    if not found:
        raise _nothing(session, trials)
    entrants = []
    for trial in spread(found, exam.directions, checked.finalists, preference):
        candidate = checked.candidate(trial)
        entrants.append(Entrant(trial, candidate, session.examiner.recall(candidate, len(exam)).outcomes))
    examiner = session.examine(checked.confirm) if checked.confirm else None
    return confirm_front(entrants, exam, examiner, preference)


def _nothing(session: Session, trials: tuple[Trial, ...]) -> StudyError:
    return StudyError(
        f"{session.home.out}: all {len(trials)} trials failed, the first because {trials[0].failure}",
        fix="narrow the ranges of the search",
    )


def _finish(
    session: Session,
    trials: tuple[Trial, ...],
    best: Trial,
    confirmed: Confirmed | None,
    front: Front | None = None,
) -> Evolved:
    """Write the best recipe, its model, the report and the pictures; what is there already stays."""
    from mergery.evolve.contest import contestants
    from mergery.evolve.importance import importance
    from mergery.evolve.report import Report

    checked, home = session.checked, session.home
    recipe = checked.candidate(best).recipe
    text = recipe.to_yaml()
    if not home.best.exists() or home.best.read_text(encoding="utf-8") != text:
        # a model never lies beside another's recipe: the old one goes before the new recipe comes
        home.report.unlink(missing_ok=True)
        shutil.rmtree(home.model, ignore_errors=True)
        write_whole(home.best, text)
    if not home.model.exists():
        merge(recipe, home.model, device=session.device)
    assert best.score is not None
    first, others = contestants(session)
    space, direction = checked.space, checked.exam.direction
    shares = importance(space.names, space.domains, trials, direction)
    report = Report(first, others, best.score, confirmed, trials, checked.exam, checked.test, shares)
    report.save(home.report)
    _draw(session, report)
    if front is not None:
        _write_front(session, front, report)
    return Evolved(recipe, report, trials, home.out, home.model, home.best, home.report, home.chart, front)


def _draw(session: Session, report: Report) -> None:
    """Draw the search, and what mattered in it."""
    from mergery.evolve.chart import draw
    from mergery.evolve.importance import draw_sensitivity

    exam, home = session.checked.exam, session.home
    references = {other.label: exam.score(other.validation) for other in report.others}
    draw(home.chart, report.trials, direction=exam.direction, metric=report.metric, references=references)
    draw_sensitivity(
        home.sensitivity,
        session.checked.space.names,
        report.trials,
        report.importance,
        direction=exam.direction,
        metric=report.metric,
    )


def _write_front(session: Session, front: Front, report: Report) -> None:
    """Ask the front the test items, which nothing is chosen by, and write it."""
    from mergery.evolve.front_report import FrontReport

    checked, home = session.checked, session.home
    judge = session.examine(checked.test)
    tests = tuple(judge.examine(member.candidate).outcomes for member in front.members)
    written = FrontReport(
        front, tests, checked.exam, checked.confirm, checked.test, checked.spec.search.preference
    )
    written.save(home)
    written.draw(home.front_chart, report.trials, report.others)
