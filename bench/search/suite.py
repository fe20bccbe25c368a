"""A suite on disk: models, items and what they are for.

::

    directory/
      suite.json                 name, base, experts, tasks, description
      models/NAME/               ordinary Hugging Face directories
      items/TASK.search.jsonl    400 in all: to search on
      items/TASK.confirm.jsonl   1000 in all: to look again at what was found
      items/TASK.test.jsonl      2000 or more in all: sealed, to report
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mergery.evaluate import Items, load_items

SPLITS = ("search", "confirm", "test")
COUNTS: Mapping[str, int] = {"search": 400, "confirm": 1000, "test": 3000}
"""Items over all tasks of a suite; each task has an equal share, rounded down."""
MANIFEST = "suite.json"


@dataclass(frozen=True)
class Suite:
    """Experts of one base, and tasks; the score is the mean over all items, each task with an equal share.

    Attributes:
        directory: where it is.
        name: of the suite.
        base: name of the model that the experts were trained from.
        experts: names of the models to merge.
        tasks: names of the tasks.
        description: one line for people.
    """

    directory: Path
    name: str
    base: str
    experts: tuple[str, ...]
    tasks: tuple[str, ...]
    description: str

    @classmethod
    def open(cls, directory: Path) -> Suite:
        data = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
        experts, tasks = tuple(data["experts"]), tuple(data["tasks"])
        return cls(directory, data["name"], data["base"], experts, tasks, data["description"])

    def save(self) -> None:
        """Write ``suite.json``: the last file, so a directory that has it is complete."""
        data = {
            "name": self.name,
            "base": self.base,
            "experts": list(self.experts),
            "tasks": list(self.tasks),
            "description": self.description,
        }
        (self.directory / MANIFEST).write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")

    def model(self, name: str) -> Path:
        """Directory of a model."""
        return self.directory / "models" / name

    def file(self, task: str, split: str) -> Path:
        """The JSONL file of one task's items."""
        return self.directory / "items" / f"{task}.{split}.jsonl"

    def items(self, split: str) -> Items:
        """The items of all tasks, one task after the other."""
        entries = [item for task in self.tasks for item in load_items(self.file(task, split))]
        return Items(f"{self.name} {split}", tuple(entries))

    def write_items(self, task: str, split: str, items: Sequence[Mapping[str, str]]) -> None:
        """Write one task's items."""
        path = self.file(task, split)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(dict(item)) + "\n" for item in items), encoding="utf-8")

    def share(self, split: str) -> int:
        """How many items each task has."""
        return COUNTS[split] // len(self.tasks)
