"""A zoo on disk: its members, what they score, and the items to test on.

::

    directory/
      zoo.json                      the manifest
      models/NAME/                  an ordinary Hugging Face model directory with the tokenizer
      items/TASK.validation.jsonl   to search on
      items/TASK.test.jsonl         to report
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mergery.errors import ZooError, near_miss
from mergery.zoo.problems import TEST, VALIDATION

FORMAT = 1
MANIFEST = "zoo.json"
_SPLITS = (VALIDATION, TEST)


@dataclass(frozen=True)
class Member:
    """One model of the zoo.

    Attributes:
        name: of the member and of its folder.
        kind: ``base``, ``language``, ``maths``, ``skill`` or ``control``.
        path: its model directory.
        description: one line for people.
        scores: accuracy per task on the test items, 0 to 1, of the weights as saved.
        steps: of training, from the base (of the base: from random weights).
        attempt: which seed it took: 0 is the first, each further one a retry.
    """

    name: str
    kind: str
    path: Path
    description: str
    scores: Mapping[str, float]
    steps: int = 0
    attempt: int = 0


@dataclass(frozen=True)
class Zoo:
    """Tiny real experts in a directory.

    Attributes:
        directory: where it is.
        seed: that it was built with.
        members: the base first.
        size: ``s``, ``m`` or ``l``.
        tasks: every task that has items here, with its description.
        torch: version that trained it.
    """

    directory: Path
    seed: int
    members: tuple[Member, ...]
    size: str
    tasks: Mapping[str, str]
    torch: str

    @classmethod
    def open(cls, directory: Path | str) -> Zoo:
        """Read ``zoo.json``.

        Raises:
            ZooError: if there is none, or it is not one of ours.
        """
        directory = Path(directory)
        path = directory / MANIFEST
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise ZooError(
                f"{directory}: there is no zoo here (no {MANIFEST})",
                fix="build one, or unpack the ready-made one",
            ) from None
        except ValueError as problem:
            raise ZooError(f"{path}: cannot be read ({problem})", fix="build the zoo anew") from None
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            found = data.get("format") if isinstance(data, dict) else type(data).__name__
            raise ZooError(f"{path}: format {FORMAT} was expected, got {found}", fix="build the zoo anew")
        try:
            return cls._from_data(directory, data)
        except KeyError as missing:
            raise ZooError(f"{path}: has no {missing}", fix="build the zoo anew") from None

    @classmethod
    def _from_data(cls, directory: Path, data: dict[str, Any]) -> Zoo:
        members = tuple(
            Member(
                name=row["name"],
                kind=row["kind"],
                path=directory / "models" / row["name"],
                description=row["description"],
                scores=row["scores"],
                steps=row["steps"],
                attempt=row["attempt"],
            )
            for row in data["members"]
        )
        return cls(directory, data["seed"], members, data["size"], data["tasks"], data["torch"])

    def save(self) -> None:
        """Write ``zoo.json``."""
        data = {
            "format": FORMAT,
            "seed": self.seed,
            "size": self.size,
            "torch": self.torch,
            "tasks": dict(self.tasks),
            "members": [
                {
                    "name": member.name,
                    "kind": member.kind,
                    "description": member.description,
                    "steps": member.steps,
                    "attempt": member.attempt,
                    "scores": dict(member.scores),
                }
                for member in self.members
            ],
        }
        (self.directory / MANIFEST).write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")

    def member(self, name: str) -> Member:
        """The member of that name.

        Raises:
            ZooError: naming the near miss.
        """
        for member in self.members:
            if member.name == name:
                return member
        raise ZooError(
            f"{self.directory}: there is no member {name}",
            fix=near_miss(name, [member.name for member in self.members]),
        )

    def items(self, task: str, split: str) -> Path:
        """The JSONL file with a task's items.

        Args:
            task: such as ``maths-j``.
            split: ``validation`` or ``test``.

        Raises:
            ZooError: if the zoo has no such task or split.
        """
        if task not in self.tasks:
            raise ZooError(f"{self.directory}: there is no task {task}", fix=near_miss(task, self.tasks))
        if split not in _SPLITS:
            raise ZooError(f"{self.directory}: there is no split {split}", fix=near_miss(split, _SPLITS))
        return items_path(self.directory, task, split)


def items_path(directory: Path, task: str, split: str) -> Path:
    """Where a zoo keeps the items of a task."""
    return directory / "items" / f"{task}.{split}.jsonl"
