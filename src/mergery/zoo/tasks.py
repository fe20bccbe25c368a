"""What the tiny models are tested on, and the sources that they are trained on, by name.

A source is a generator said in a tongue: ``story-w`` is a story with questions, code-switched. A task is a
generator whose passages are cut before one scored word: what comes before is the prompt, the word itself is
the answer. The models met texts of exactly this form in training, about other contents.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random

from mergery.errors import ZooError, near_miss
from mergery.zoo import skills
from mergery.zoo.language import HOW, SIGN, TONGUES, WHO, render
from mergery.zoo.problems import TRAINING, Generator, Passage, copies, equations, story, word_problem


@dataclass(frozen=True, slots=True)
class Item:
    """One question: a prompt, and the single word that answers it (with its leading space)."""

    prompt: str
    answer: str


@dataclass(frozen=True, slots=True)
class Task:
    """A test: passages with one question in them, in one tongue."""

    description: str
    generator: Generator
    tongue: str = "e"


_SOURCES: Mapping[str, Generator] = {
    "story": story,
    "how": partial(story, kinds=(HOW,)),
    "lookup": partial(story, kinds=(HOW, SIGN)),
    "problem": word_problem,
    "equations": equations,
    "copies": copies,
    "count": skills.count,
    "before": skills.before,
    "biggest": skills.biggest,
    "sort": skills.sort,
    "reverse": skills.reverse,
    "same": skills.same,
    "total": skills.total,
    "unknown": skills.unknown,
}

_one_problem = partial(word_problem, most=1)
_one_how = partial(story, kinds=(HOW,), most=1)
_one_sign = partial(story, kinds=(SIGN,), most=1)
_one_who = partial(story, kinds=(WHO,), most=1)

TASKS: Mapping[str, Task] = {
    "maths-j": Task("word problems in J, which no expert was trained on", _one_problem, "j"),
    "maths-e": Task("word problems in E", _one_problem),
    "how-j": Task("how many, said in a story in J", _one_how, "j"),
    "sign-j": Task("more, fewer or the same, said in a story in J", _one_sign, "j"),
    "how-e": Task("how many, said in a story in E", _one_how),
    "sign-e": Task("more, fewer or the same, said in a story in E", _one_sign),
    "who-e": Task("who it was, said in a story in E", _one_who),
    "count": Task("how often an object stands in a row", partial(skills.count, most=1)),
    "before": Task("which word stands before another", partial(skills.before, most=1)),
    "biggest": Task("the biggest of four numbers", partial(skills.biggest, rows=1)),
    "sort": Task("four numbers in order", partial(skills.sort, rows=1)),
    "reverse": Task("four words backwards", partial(skills.reverse, rows=1)),
    "same": Task("whether two objects changed in the same direction", partial(skills.same, most=1)),
    "total": Task("the sum of two numbers from a story", partial(skills.total, most=1)),
    "unknown": Task("how many, or that the story does not say", partial(skills.unknown, most=1)),
}

LANGUAGE_TASKS = ("maths-j", "maths-e", "how-j", "sign-j", "how-e", "sign-e", "who-e")
"""The tasks that every member is tested on."""


_MOST_REPEATED = 200
"""Draws in a row without a new content after which a task is taken to have no more."""


def draw_training(source: str, rng: Random) -> tuple[list[str], list[bool]]:
    """One training text of a source: its words, and which of them are to be predicted."""
    kind, _, tongue = source.rpartition("-")
    passage = _SOURCES[kind](rng, TRAINING)
    return render(passage.words, tongue, rng), [word.scored for word in passage.words]


def check_source(source: str) -> None:
    """Refuse a source that does not exist.

    Raises:
        ZooError: naming the sources and the tongues there are.
    """
    kind, _, tongue = source.rpartition("-")
    if kind not in _SOURCES or tongue not in TONGUES:
        known = [f"{name}-{said}" for name in _SOURCES for said in TONGUES]
        raise ZooError(f"zoo source {source}: there is no such source", fix=near_miss(source, known))


def draw_items(task: str, split: str, count: int) -> list[Item]:
    """Items of a task, each about another content; the same on every call.

    Args:
        task: a name in ``TASKS``.
        split: ``validation`` or ``test``.
        count: how many.

    Raises:
        ZooError: if there is no such task, or it has not that many different contents.
    """
    if task not in TASKS:
        raise ZooError(f"zoo task {task}: there is no such task", fix=near_miss(task, TASKS))
    chosen, rng = TASKS[task], Random(f"{task} {split}")
    items: list[Item] = []
    seen: dict[str, None] = {}
    repeated = 0
    while len(items) < count:
        passage = chosen.generator(rng, split)
        if passage.content not in seen:
            repeated = 0
            seen[passage.content] = None
            items.append(_cut(passage, chosen.tongue, rng))
            continue
        repeated += 1
        if repeated > _MOST_REPEATED:
            raise ZooError(
                f"zoo task {task}: found only {len(items)} different {split} items, {count} were asked for",
                fix="ask for fewer items",
            )
    return items


def _cut(passage: Passage, tongue: str, rng: Random) -> Item:
    """Cut a passage before one of its scored words."""
    at = rng.choice([place for place, word in enumerate(passage.words) if word.scored])
    words = render(passage.words[: at + 1], tongue, rng)
    return Item(" ".join(words[:-1]), " " + words[-1])


def write_items(items: list[Item], path: Path) -> None:
    """Write items as JSONL, one ``{"prompt": ..., "answer": ...}`` a line."""
    lines = [json.dumps({"prompt": item.prompt, "answer": item.answer}) for item in items]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def read_items(path: Path) -> list[Item]:
    """Read what ``write_items`` wrote."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [Item(row["prompt"], row["answer"]) for row in rows]
