"""Build the suites that the search is measured on: ``python -m bench.search.suites [DIRECTORY]``.

Every suite trains from nothing or takes members of a zoo, has sealed test items, and is made so that plain
merges stay far below what a search finds. ``--describe`` prints by how much.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import gettempdir

from transformers.utils.logging import disable_progress_bar

from bench.page import table
from bench.search.landscape import describe
from bench.search.suite import MANIFEST, SPLITS, Suite
from bench.search.tokens import FORMATS, Task, draw_items
from bench.search.training import Course, train_family
from mergery.zoo import Zoo, build
from mergery.zoo.problems import TEST, VALIDATION
from mergery.zoo.tasks import draw_items as draw_zoo_items

DEFAULT = Path(gettempdir()) / "mergery-bench" / "suites"
BASE = "base"
TOKEN_LAYERS = 5

ZOO_SKILLS = ("count", "before", "biggest", "sort", "reverse", "same", "total", "unknown")
LANGUAGES = ("japanese", "maths", "japanese-short", "maths-frozen")
# With these five the best global weights differ most from equal ones.
SKILLS = ("count", "before", "sort", "reverse", "same")

ZOO_SUITES: Mapping[str, tuple[Sequence[str], Sequence[str], str]] = {
    "languages": (LANGUAGES, ("maths-j",), "word problems in a language that no expert has seen them in"),
    "skills": (SKILLS, SKILLS, "five small tasks, one expert each"),
    "distractors": ((*LANGUAGES, *ZOO_SKILLS), ("maths-j",), "languages, and eight experts of no use for it"),
}
"""Experts, tasks and description of the suites made of members of a zoo."""

ALGORITHMS = ("reverse", "sort", "sums", "swap")
FORMAT_OF = {"reverse": ">", "larger": "~", "shift": "="}
"""The one format in which each expert of ``formats`` learns its skill."""


def _algorithms(directory: Path, seed: int) -> Suite:
    """The base learns eight algorithms a little; each expert one of them well, with a few others' texts."""
    mix = {Task(skill): 1.0 for skill in ("copy", *ALGORITHMS, "shift", "rotate", "larger")}
    kept = {Task("copy"): 0.1, Task("shift"): 0.1, Task("rotate"): 0.1}
    courses = [Course(BASE, mix, 150, 2e-3)]
    for skill in ALGORITHMS:
        # The base knows nothing of sums, so they take longer.
        steps = 150 if skill == "sums" else 80
        courses.append(Course(skill, {Task(skill): 1.0, **kept}, steps, 5e-4, decay=True))
    text = "four algorithms on rows of digits, one expert each"
    tasks = [Task(skill) for skill in ALGORITHMS]
    return _tokens(directory, courses, tasks, text, seed=seed)


def _formats(directory: Path, seed: int) -> Suite:
    """Each expert learns one skill in one format, so hard that it forgets the other formats.

    The base writes every format but knows none of the skills; asked is every skill in the formats that its
    expert was not trained in. Equal weights for all layers bring the format along with the skill.
    """
    mix = {Task(skill, sign): 1.0 for skill in ("copy", "rotate", "swap") for sign in _signs()}
    lengths = {"reverse": (90, 5e-4), "larger": (80, 7e-4), "shift": (60, 8e-4)}
    courses = [Course(BASE, mix, 220, 2e-3)]
    for skill, sign in FORMAT_OF.items():
        courses.append(Course(skill, {Task(skill, sign): 1.0}, *lengths[skill]))
    tasks = [Task(skill, sign) for skill, own in FORMAT_OF.items() for sign in _signs() if sign != own]
    text = "three algorithms in three formats, each expert hard trained on one pair, asked for the others"
    return _tokens(directory, courses, tasks, text, seed=seed)


def _signs() -> tuple[str, ...]:
    return tuple(FORMATS)[: len(FORMAT_OF)]


def _tokens(
    directory: Path, courses: Sequence[Course], tasks: Sequence[Task], description: str, *, seed: int
) -> Suite:
    """Train a family on token tasks and write the items."""
    train_family(directory / "models", courses, seed=seed, layers=TOKEN_LAYERS)
    experts = tuple(course.name for course in courses[1:])
    names = tuple(task.name for task in tasks)
    suite = Suite(directory, directory.name, BASE, experts, names, description)
    for split in SPLITS:
        for task in tasks:
            suite.write_items(task.name, split, draw_items(task, split, suite.share(split)))
    suite.save()
    return suite


def _of_zoo(directory: Path, zoo: Zoo) -> Suite:
    """Copy members of a zoo and draw its tasks' items."""
    experts, tasks, description = ZOO_SUITES[directory.name]
    for name in (BASE, *experts):
        shutil.copytree(zoo.member(name).path, directory / "models" / name)
    suite = Suite(directory, directory.name, BASE, tuple(experts), tuple(tasks), description)
    search, confirm, test = (suite.share(split) for split in SPLITS)
    for task in tasks:
        # The zoo divides contents in three; search and confirmation share its validation contents.
        validation = draw_zoo_items(task, VALIDATION, search + confirm)
        drawn = (validation[:search], validation[search:], draw_zoo_items(task, TEST, test))
        for split, items in zip(SPLITS, drawn, strict=True):
            lines = [{"prompt": item.prompt, "answer": item.answer} for item in items]
            suite.write_items(task, split, lines)
    suite.save()
    return suite


TOKEN_SUITES: Mapping[str, Callable[[Path, int], Suite]] = {"algorithms": _algorithms, "formats": _formats}
NAMES = ("algorithms", "languages", "skills", "formats", "distractors")


def build_suites(
    directory: Path, *, names: Iterable[str] = NAMES, zoo: Path | None = None, seed: int = 0
) -> dict[str, Suite]:
    """Build what is missing and open all of it; equal seeds give equal bytes on one machine.

    Args:
        directory: to write to, one folder a suite.
        names: which suites.
        zoo: an existing zoo; by default one is trained (five minutes) below ``directory``.
        seed: of the training.
    """
    suites = {}
    for name in names:
        folder = directory / name
        if (folder / MANIFEST).is_file():
            suites[name] = Suite.open(folder)
            continue
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        begin = time.perf_counter()
        if name in TOKEN_SUITES:
            suites[name] = TOKEN_SUITES[name](folder, seed)
        else:
            suites[name] = _of_zoo(folder, _zoo(zoo or directory / "zoo", seed))
        print(f"built {name} in {time.perf_counter() - begin:.0f} s", flush=True)
    return suites


def _zoo(directory: Path, seed: int) -> Zoo:
    """Open a zoo, or train one where there is none."""
    if not (directory / "zoo.json").is_file():
        print(f"training a zoo in {directory}", flush=True)
        shutil.rmtree(directory, ignore_errors=True)
        return build(directory, seed=seed)
    return Zoo.open(directory)


def main(options: Sequence[str] | None = None) -> None:
    """Build, and describe where asked."""
    parser = argparse.ArgumentParser(prog="python -m bench.search.suites", description=__doc__)
    parser.add_argument("directory", nargs="?", type=Path, default=DEFAULT)
    parser.add_argument("--zoo", type=Path, help="an existing zoo, instead of training one")
    parser.add_argument("--only", nargs="+", choices=NAMES, default=list(NAMES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--describe", action="store_true", help="print parents, plain merges, random search")
    parser.add_argument("--deep", action="store_true", help="with longer searches (minutes a suite)")
    chosen = parser.parse_args(options)
    # Its bars would stand between our lines.
    disable_progress_bar()
    suites = build_suites(chosen.directory, names=chosen.only, zoo=chosen.zoo, seed=chosen.seed)
    if chosen.describe or chosen.deep:
        rows = []
        for suite in suites.values():
            rows.append(describe(suite, deep=chosen.deep))
            print("\n".join(table(tuple(rows[-1]), [tuple(rows[-1].values())])), flush=True)
        print("\n" + "\n".join(table(tuple(rows[0]), [tuple(row.values()) for row in rows])))


if __name__ == "__main__":
    main()
