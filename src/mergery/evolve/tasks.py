"""A search's tasks: their items divided into those it sees, those that confirm, and those that judge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mergery.errors import DataError
from mergery.evaluate import Evaluator, Items, disjoint, get_evaluator, load_items
from mergery.evolve.exam import Exam, Section
from mergery.evolve.race import RUNGS
from mergery.evolve.search import TaskSpec

__all__ = ["CONFIRM_RUNGS", "Task", "exams", "load_tasks"]

CONFIRM_RUNGS = (0.25, 0.5, 1.0)
"""Shares of the items held back after which the worse half of the finalists leaves."""

FRONT_RUNGS = (0.5, 1.0)
"""The same for a front: on the first half it is chosen, on the second one nothing is."""

FRONT_FEWEST = 4
"""Items of each task; with fewer, a half may hold none."""


@dataclass(frozen=True)
class Task:
    """One task, checked.

    Attributes:
        name: as the search file calls it.
        evaluator: how answers become outcomes.
        search: items that the search sees.
        confirm: items that only finalists are asked; ``None`` if none are held back.
        test: items that only the report sees.
        weight: of its mean in the score.
    """

    name: str
    evaluator: Evaluator
    search: Items
    confirm: Items | None
    test: Items
    weight: float


def load_tasks(specs: Mapping[str, TaskSpec]) -> tuple[Task, ...]:
    """Read the tasks' items.

    Raises:
        DataError: if a file cannot be used, an item stands in two sets of one task or of two, or some tasks
            hold items back and some do not.
    """
    tasks = tuple(
        _load(name, spec, f"tasks.{name}" if len(specs) > 1 else name) for name, spec in specs.items()
    )
    without = [task.name for task in tasks if task.confirm is None]
    if without and len(without) < len(tasks):
        raise DataError(
            f"tasks.{without[0]}.confirm: nothing is held back here, so finalists would not be asked what "
            "other tasks hold back",
            fix="write confirm: 0 in all tasks, or in none",
        )
    for task in tasks:
        for other in tasks:
            disjoint(task.search, other.test)
            if task.confirm is not None:
                disjoint(task.confirm, other.test)
                disjoint(other.search, task.confirm)
    return tasks


def exams(
    tasks: tuple[Task, ...], *, racing: bool, objectives: bool, most: int | None = None
) -> tuple[Exam, Exam | None, Exam]:
    """What candidates are asked while searching, what finalists are, and what judges.

    Args:
        tasks: the search's.
        racing: whether the search's exam has rungs.
        objectives: whether each task is an objective of its own.
        most: items that a candidate is asked while searching; all, if ``None``.

    Raises:
        DataError: if too few items are held back, or not every task would be asked.
    """

    def exam(which: str, shares: tuple[float, ...], most: int | None = None) -> Exam:
        sections = [Section(task.name, task.evaluator, getattr(task, which), task.weight) for task in tasks]
        return Exam(tuple(sections), shares, objectives, most)

    search = exam("search", RUNGS if racing else (1.0,), most)
    if len(np.unique(search.section_of)) < len(tasks):
        raise DataError(
            f"search.items: {most} items leave a task without any of {len(tasks)}",
            fix=f"ask {2 * len(tasks)} or more",
        )

    confirm = None
    if all(task.confirm for task in tasks):
        confirm = exam("confirm", FRONT_RUNGS if objectives else CONFIRM_RUNGS)
    for section in confirm.sections if confirm and objectives else ():
        if len(section.items) < FRONT_FEWEST:
            raise DataError(
                f"{section.items.name}: {len(section.items)} items are too few to confirm a front",
                fix=f"hold {FRONT_FEWEST} or more back for each task, or none with confirm: 0",
            )
    return search, confirm, exam("test", (1.0,))


def _load(name: str, spec: TaskSpec, where: str) -> Task:
    evaluator = get_evaluator(spec.evaluator, where=f"{where}.evaluator")
    validation, test = load_items(spec.validation), load_items(spec.test)
    disjoint(validation, test)  # before it is divided, so that the error counts what the file holds
    if isinstance(spec.confirm, Path):
        return Task(name, evaluator, validation, load_items(spec.confirm), test, spec.weight)
    search, confirm = _divide(validation, spec.confirm)
    return Task(name, evaluator, search, confirm, test, spec.weight)


def _divide(items: Items, share: float) -> tuple[Items, Items | None]:
    """Hold a share of the items back: those with the last hashes, which has nothing to do with what they ask.

    Raises:
        DataError: if nothing is left on one side.
    """
    held = round(share * len(items))
    if share == 0:
        return items, None
    if not 0 < held < len(items):
        raise DataError(
            f"{items.name}: {len(items)} items are too few to hold back a share of {share:g}",
            fix="give more validation items, a file of items with confirm:, or confirm: 0",
        )
    last = sorted(items.hashes)[len(items) - held :]
    back = dict.fromkeys(last)
    kept = tuple(item for item in items if item.hash not in back)
    return Items(items.name, kept), Items(items.name, tuple(item for item in items if item.hash in back))
