"""How long a search's steps take, by doing a few of them: candidates, gradients, loading, intervals."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mergery.errors import RecipeError, StudyError
from mergery.evaluate.intervals import bootstrap_mean
from mergery.evolve.algorithms.api import Point
from mergery.evolve.builders import StoredBuilder
from mergery.evolve.chart import search_figure
from mergery.evolve.fitness import inputs_digest
from mergery.evolve.importance import sensitivity_figure
from mergery.evolve.launchers import Finished, InlineLauncher, Job, Launcher

if TYPE_CHECKING:
    from mergery.evolve.session import Session

__all__ = ["Pace", "Sample", "Workshop", "measure"]

ROUNDS = 7
"""Candidates tried one after the other; the first warms up."""

ROUNDS_OF_WORKERS = 3
"""Candidates that each worker tries; the first warms up."""

FEWEST, PATIENCE = 3, 30.0
"""After so many candidates, and so many seconds, no more are tried."""


@dataclass(frozen=True)
class Pace:
    """How long one candidate takes.

    Attributes:
        begin: seconds until the first one begins, and that the first one takes longer than others.
        build: seconds to build one.
        item: seconds to ask it one item.
        slope: seconds of one gradient; 0 if none is taken.
    """

    begin: float
    build: float
    item: float
    slope: float = 0.0


@dataclass(frozen=True, eq=False)
class Sample:
    """A candidate that was tried.

    Attributes:
        point: where in the unit cube.
        outcomes: ``(n,)`` of the exam's items.
        smooth: ``(n,)`` their smooth companions; NaN where the evaluator has none.
    """

    point: Point
    outcomes: NDArray[np.float32]
    smooth: NDArray[np.float32]


@dataclass(frozen=True)
class Workshop:
    """What was measured of a search.

    Attributes:
        here: in the process that searches.
        there: where trials run; the same, if that is this process.
        slots: trials at a time.
        load: seconds to load a model as stock transformers does.
        prepare: seconds to get one item ready.
        interval: seconds of one item in the bootstrap of a mean.
        pictures: seconds to draw the search and what mattered.
        memory: bytes at most, of all processes together.
        samples: the candidates that were tried here.
    """

    here: Pace
    there: Pace
    slots: int
    load: float
    prepare: float
    interval: float
    pictures: float
    memory: int
    samples: tuple[Sample, ...]


def measure(session: Session) -> Workshop:
    """Try a few candidates of a search, here and where its trials run; nothing is kept.

    Args:
        session: unwritten.

    Raises:
        StudyError: if none of the candidates can be asked.
    """
    points = _points(session)
    here, samples = _paced(session, InlineLauncher(session.examiner), points, ROUNDS)
    load, prepare = _loading(session)
    with closing(session.launcher()) as launcher:
        there, elsewhere = here, not isinstance(launcher, InlineLauncher)
        if elsewhere:
            there, _ = _paced(session, launcher, points, ROUNDS_OF_WORKERS)
    memory = _peak(resource.RUSAGE_SELF) + elsewhere * launcher.slots * _peak(resource.RUSAGE_CHILDREN)
    return Workshop(
        here, there, launcher.slots, load, prepare, _interval(), _pictures(session), memory, samples
    )


def _points(session: Session) -> Iterator[Point]:
    """The start, what is known, and random points between and after them; each once."""
    problem = session.checked.problem
    generator = np.random.default_rng(0)
    known = [problem.start, *(point for _, point in problem.known)]
    seen: dict[Point, None] = {}
    while True:
        for point in (*known[:1], tuple(generator.random(problem.dimensions).tolist())):
            if point not in seen:
                seen[point] = None
                yield point
        del known[:1]


def _paced(
    session: Session, launcher: Launcher, points: Iterator[Point], rounds: int
) -> tuple[Pace, tuple[Sample, ...]]:
    """Keep a launcher busy for some rounds; the first of each worker warms up."""
    space, tried = session.checked.space, list[Point]()

    def jobs() -> Iterator[Job]:
        for point in islice(points, rounds * launcher.slots):
            genome = space.decode(point)
            with suppress(RecipeError):  # values that cannot stand together cost nothing
                job = Job(len(tried), space.candidate(genome), genome=genome)
                tried.append(point)
                yield job

    begin = time.perf_counter()
    ended = list(_run(launcher, jobs(), begin))
    asked = [(at, done.number, done.examined) for at, done in ended if done.examined is not None]
    if not asked:
        raise StudyError(
            f"none of {len(ended)} candidates can be asked, the first because {ended[0][1].failure}",
            fix="narrow the ranges of the search",
        )
    counted = [examined for _, _, examined in asked[launcher.slots :] or asked]
    build = float(np.mean([examined.build_seconds for examined in counted]))
    score = float(np.mean([examined.score_seconds for examined in counted]))
    cold = max(at for at, _, _ in asked[: launcher.slots]) - begin - build - score
    samples = tuple(Sample(tried[number], done.outcomes, done.smooth) for _, number, done in asked)
    slope = _slope(session, launcher, begin) if session.checked.problem.gradients else 0.0
    return Pace(max(0.0, cold), build, score / len(session.checked.exam), slope), samples


def _slope(session: Session, launcher: Launcher, begin: float) -> float:
    """Seconds of a gradient at the start; of two for each worker, the second."""
    genome = session.checked.space.decode(session.checked.problem.start)
    candidate = session.checked.space.candidate(genome)
    jobs = (Job(number, candidate, genome=genome, batch=number) for number in range(2 * launcher.slots))
    slopes = [done.slope.seconds for _, done in _run(launcher, jobs, begin) if done.slope is not None]
    return float(np.mean(slopes[launcher.slots :] or slopes or [0.0]))


def _run(launcher: Launcher, jobs: Iterator[Job], begin: float) -> Iterator[tuple[float, Finished]]:
    """Jobs as they end, with the time."""
    out, done = 0, 0
    for job in islice(jobs, launcher.slots):
        launcher.submit(job)
        out += 1
    while out:
        finished = launcher.next()
        out, done = out - 1, done + 1
        yield time.perf_counter(), finished
        late = time.perf_counter() - begin > PATIENCE and done >= FEWEST * launcher.slots
        for job in islice(jobs, 0 if late else 1):
            launcher.submit(job)
            out += 1


def _loading(session: Session) -> tuple[float, float]:
    """Seconds to load a model, and to get an item ready for it."""
    model = session.checked.models[0]
    section = session.checked.exam.sections[0]

    def load() -> None:
        StoredBuilder(model, device=session.device)
        inputs_digest([model])

    builder = StoredBuilder(model, device=session.device)
    prepare = _typical(lambda: section.evaluator.prepare(builder.tokenizer, section.items))
    return _typical(load, FEWEST), prepare / len(section.items)


def _interval() -> float:
    values = np.linspace(0, 1, 500)
    return _typical(lambda: bootstrap_mean(values)) / len(values)


def _pictures(session: Session) -> float:
    names = session.checked.space.names

    def draw() -> None:
        search_figure([], direction="maximize", metric="", references={}).canvas.draw()
        sensitivity_figure(names, [], {}, direction="maximize", metric="").canvas.draw()

    begin = time.perf_counter()
    draw()  # loads the library, too
    return time.perf_counter() - begin


def _typical(step: Callable[[], object], times: int = 5) -> float:
    """Median seconds of a step: a machine that others use is slow now and then."""
    spent = []
    for _ in range(times):
        begin = time.perf_counter()
        step()
        spent.append(time.perf_counter() - begin)
    return float(np.median(spent))


def _peak(who: int) -> int:
    """The most bytes that this process, or the largest of those that it has waited for, has held."""
    most = resource.getrusage(who).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most
