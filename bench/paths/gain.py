"""Weights first and a path then, against weights alone at the same budget, on the search's own pipeline."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from bench.records import Records
from bench.search.arena import draw, of_budget, spec_of, until
from bench.search.suite import Suite
from mergery.evolve import SearchSpec
from mergery.evolve.home import Home
from mergery.evolve.opening import Search
from mergery.evolve.run import choose
from mergery.evolve.search import EVOLVED, PathsSpec
from mergery.evolve.session import Session
from mergery.evolve.space import Domain, Genome
from mergery.evolve.trial import Trial
from mergery.recipe import Recipe

ALONE = "weights"
STEPS = "all single steps"
LONGEST = 1.5
GAINS = (0.5, 0.7, 0.85, 1.2)


@dataclass(frozen=True)
class Stage:
    """What one search ends with.

    ``entry`` is ``weights``, the algorithm that looked for a path after them, or ``all single steps`` from
    them; ``budget`` in item evaluations, weights included. ``plain`` is what the model that a path begins
    with scores on the search's items, ``better`` how many of the paths tried score more there; ``layers`` is
    how deep the result is, as a multiple of the base. Other names as in :class:`bench.search.arena.Bout`.
    """

    suite: str
    entry: str
    seed: int
    budget: int
    searched: float
    claimed: float
    test: float
    trials: int
    origin: str
    plain: float | None = None
    better: int | None = None
    layers: float = 1.0


def stages(
    suite: Suite,
    after: Sequence[tuple[str, int]],
    *,
    seed: int,
    first: int,
    total: int,
    steps: bool = False,
    items: int = 400,
) -> Iterator[Stage]:
    """Search weights; where a part of that budget led to, begin paths.

    Args:
        suite: where.
        after: algorithms, and what each may spend on a path.
        seed: of the searches, and of the draw of items.
        first: budget of the weights that paths begin with.
        total: budget of the search of weights alone.
        steps: whether to try all single steps, too, for which there is no budget.
        items: to search on.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        draw(suite, folder, seed=seed, items=items)
        spec = spec_of(suite, "default", folder, seed=seed, budget=total)
        checked = Search.open(spec)
        found: list[tuple[Recipe, Stage]] = []
        with Session(checked, Home(folder / "weights"), device="cpu") as session:
            trials = session.search()
            for budget in (first, total):
                session.checked = of_budget(checked, budget)
                begun = until(trials, budget - session.checked.reserve, len(checked.exam))
                best, stage = _chosen(session, begun, Stage(suite.name, ALONE, seed, budget, 0, 0, 0, 0, ""))
                found.append((session.checked.candidate(best).recipe, stage))
        yield from (stage for _, stage in found)
        for algorithm, budget in after:
            paths = _paths(suite, spec, algorithm, budget).paths_with(found[0][0])
            place = Stage(suite.name, algorithm, seed, first + budget, 0, 0, 0, 0, "")
            yield _path(Search.open(paths), folder / f"{algorithm} {budget}", place)
        if steps:
            paths = _paths(suite, spec, "random", total).paths_with(found[0][0])
            place = Stage(suite.name, STEPS, seed, first, 0, 0, 0, 0, "")
            yield _steps(Search.open(paths), folder / STEPS, place)


def _paths(suite: Suite, spec: SearchSpec, algorithm: str, budget: int) -> SearchSpec:
    """The search file with a path behind the weights."""
    models = (EVOLVED, *(str(suite.model(name)) for name in suite.experts))
    search = {"algorithm": algorithm, "budget": budget}
    return replace(spec, paths=PathsSpec(models, longest=LONGEST, search=search))


def _path(checked: Search, folder: Path, place: Stage) -> Stage:
    """Search a path, and compare with where it began."""
    space = checked.space
    begin = space.candidate(space.decode(checked.problem.start))
    with Session(checked, Home(folder), device="cpu") as session:
        trials = session.search()
        plain = checked.exam.score(session.examiner.examine(begin).outcomes)
        best, stage = _chosen(session, trials, place)
    better = sum(trial.score > plain for trial in trials if trial.whole and trial.score is not None)
    paths = [candidate.path for candidate in (checked.candidate(best), begin)]
    deep, shallow = (len(path.hops) for path in paths if path is not None)
    return replace(stage, plain=plain, better=better, layers=deep / shallow)


def _steps(checked: Search, folder: Path, place: Stage) -> Stage:
    """Every path one step from the plain one, on the items held back; the best of them on the sealed ones."""
    space = checked.space
    begin = space.decode(checked.problem.start)
    with Session(checked, Home(folder), device="cpu") as session:
        exam, examiner = checked.confirm, session.examine(checked.confirm)
        near = [space.candidate(genome) for genome in single_steps(space.domains, begin)]
        plain = exam.score(examiner.examine(space.candidate(begin)).outcomes)
        scores = [exam.score(examiner.examine(candidate).outcomes) for candidate in near]
        best = max(range(len(near)), key=lambda at: scores[at])
        test = checked.test.score(session.examine(checked.test).examine(near[best]).outcomes)
    return replace(
        place,
        budget=place.budget + len(near) * len(exam),
        searched=scores[best],
        claimed=scores[best],
        test=test,
        trials=len(near),
        origin="step",
        plain=plain,
        better=sum(score > plain for score in scores),
    )


def single_steps(domains: Sequence[Domain], begin: Genome) -> list[Genome]:
    """All genomes that differ from one in a single choice, or in one of the gains ``GAINS``."""
    return [
        (*begin[:at], value, *begin[at + 1 :])
        for at, domain in enumerate(domains)
        for value in (domain if isinstance(domain[0], str) else GAINS)
        if value != begin[at]
    ]


def _chosen(session: Session, trials: tuple[Trial, ...], place: Stage) -> tuple[Trial, Stage]:
    """What the search says, and what that is worth on the sealed items."""
    best, confirmed = choose(session, trials)
    test = session.checked.test
    outcomes = session.examine(test).examine(session.checked.candidate(best)).outcomes
    assert best.score is not None
    return best, replace(
        place,
        searched=best.score,
        claimed=confirmed.claim.estimate if confirmed else best.score,
        test=test.score(outcomes),
        trials=len(trials),
        origin=best.origin,
    )


def run(
    suite: Suite,
    after: Sequence[tuple[str, int]],
    *,
    seed: int,
    first: int,
    total: int,
    records: Records,
    steps: bool = False,
    items: int = 400,
) -> None:
    """Run one seed on one suite unless it is on record."""
    if records.of(suite=suite.name, seed=seed, budget=total, entry=ALONE):
        return
    found = list(stages(suite, after, seed=seed, first=first, total=total, steps=steps, items=items))
    for stage in found:
        print(json.dumps(asdict(stage)), flush=True)
        records.note(**asdict(stage))
