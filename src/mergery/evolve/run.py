"""A search from its file to its model."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mergery.engine import make_plan, merge
from mergery.errors import RecipeError, StudyError
from mergery.evaluate import Evaluator, Items, disjoint, get_evaluator, load_items
from mergery.evolve.algorithms import AlgorithmKind, Problem, get_algorithm
from mergery.evolve.home import Home, write_whole
from mergery.evolve.ledger import Ledger
from mergery.evolve.report import Report
from mergery.evolve.search import SearchSpec
from mergery.evolve.space import SearchSpace
from mergery.evolve.trial import Progress, Trial, best_trial
from mergery.recipe import Recipe

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
    """

    best: Recipe
    report: Report
    trials: tuple[Trial, ...]
    directory: Path
    model: Path
    recipe_file: Path
    report_file: Path
    chart: Path


@dataclass(frozen=True)
class _Search:
    """A search whose every part has been checked."""

    spec: SearchSpec
    space: SearchSpace
    kind: AlgorithmKind
    evaluator: Evaluator
    validation: Items
    test: Items

    @property
    def start(self) -> Recipe:
        return self.space.recipe(self.space.decode(self.space.start))

    def identity(self, inputs: str) -> str:
        """Hash of all that decides a trial: the study's name."""
        search = self.spec.to_dict()["search"]
        settings = {key: value for key, value in dict(search).items() if key != "trials"}  # type: ignore[call-overload]
        parts = [
            self.space.skeleton,
            [(knob.path, knob.low, knob.high, knob.start, knob.filters) for knob in self.space.knobs],
            settings,
            [self.evaluator.name, self.validation.digest, self.test.digest],
            inputs,
        ]
        return f"mergery-{hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]}"


def evolve(
    search: SearchSpec | Path | str,
    out: Path | str,
    *,
    device: str = "cpu",
    progress: Callable[[Progress], None] | None = None,
) -> Evolved:
    """Search for the best recipe, and write its model.

    Every trial is on disk before the next begins. Killed at any moment and called again with the same
    search and directory, it continues and ends where it would have ended; called again with more trials,
    it adds them.

    Args:
        search: the search, or the path of its YAML file.
        out: directory for the result; it must not exist, be empty, or be this search's own.
        device: where to merge and score (``cpu``, ``cuda``).
        progress: told after every trial.

    Raises:
        MergeryError: if the search, a model, the items or the directory is at fault; found before the
            first trial, with nothing written.
        StudyError: if the directory holds another search, or every trial failed.
    """
    spec = search if isinstance(search, SearchSpec) else SearchSpec.load(search)
    checked = _check(spec)
    home = Home(Path(out))
    home.check(spec, make_plan(checked.start).bytes_written)

    from mergery.engine import LiveMerge
    from mergery.evolve.fitness import Fitness, inputs_digest, score_once
    from mergery.evolve.record import Record
    from mergery.evolve.study import run_trials

    inputs = inputs_digest(checked.start.models)
    evaluator, items = checked.evaluator, checked.validation
    fitness = Fitness(LiveMerge(checked.start, device=device), items, evaluator)
    with home.claim(spec), Ledger(home.ledger) as ledger:
        record = Record(
            home.journal,
            checked.identity(inputs),
            direction=evaluator.direction,
            names=checked.space.names,
            bounds=checked.space.bounds,
        )
        trials = run_trials(
            checked.space,
            checked.kind.start(Problem(checked.space.start), spec.search.for_algorithm),
            lambda recipe: score_once(
                ledger, f"recipe {recipe.digest} {inputs}", evaluator, items, lambda: fitness.score(recipe)
            ),
            record,
            trials=spec.search.trials,
            direction=evaluator.direction,
            progress=progress,
        )
        return _finish(checked, home, ledger, trials, device)


def _check(spec: SearchSpec) -> _Search:
    """Everything that can be wrong before a weight is read."""
    kind = get_algorithm(spec.search.algorithm)
    for name in ("population", "sigma"):
        if getattr(spec.search, name) is not None and name not in kind.settings:
            raise RecipeError(f"search.{name}: {kind.name} has no {name}", fix=f"remove {name}")
    evaluator = get_evaluator(spec.task.evaluator, where="task.evaluator")
    validation, test = load_items(spec.task.validation), load_items(spec.task.test)
    disjoint(validation, test)
    return _Search(spec, SearchSpace.open(spec.recipe), kind, evaluator, validation, test)


def _finish(search: _Search, home: Home, ledger: Ledger, trials: tuple[Trial, ...], device: str) -> Evolved:
    """Write the best recipe, its model, the report and the picture; what is there already stays."""
    from mergery.evolve.chart import draw
    from mergery.evolve.report import compare

    best = best_trial(trials, search.evaluator.direction)
    if best is None or best.score is None:
        raise StudyError(
            f"{home.out}: all {len(trials)} trials failed, the first because {trials[0].failure}",
            fix="narrow the ranges of the search",
        )
    recipe = search.space.recipe(best.genome)
    text = recipe.to_yaml()
    if not home.best.exists() or home.best.read_text(encoding="utf-8") != text:
        # a model never lies beside another's recipe: the old one goes before the new recipe comes
        home.report.unlink(missing_ok=True)
        shutil.rmtree(home.model, ignore_errors=True)
        write_whole(home.best, text)
    if not home.model.exists():
        merge(recipe, home.model, device=device)
    first, others = compare(
        recipe,
        home.model,
        search.validation,
        search.test,
        evaluator=search.evaluator,
        ledger=ledger,
        device=device,
    )
    report = Report(first, others, best.score, trials, search.evaluator)
    report.save(home.report)
    draw(
        home.chart,
        trials,
        direction=search.evaluator.direction,
        metric=search.evaluator.name,
        references={f"{other.role} {Path(other.name).name}": other.validation.value for other in others},
    )
    return Evolved(recipe, report, trials, home.out, home.model, home.best, home.report, home.chart)
