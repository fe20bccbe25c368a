"""Train one member in a process of its own: ``python -m mergery.zoo.worker DIRECTORY NAME SEED SIZE``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from mergery.errors import ZooError
from mergery.zoo.build import train_member
from mergery.zoo.members import CURRICULUM


def main() -> int:
    """Train, and print what the manifest needs as JSON."""
    directory, name, seed, size = sys.argv[1:5]
    try:
        member = train_member(Path(directory), CURRICULUM.plan(name), CURRICULUM, seed=int(seed), size=size)
    except ZooError as error:
        print(json.dumps({"message": error.message, "fix": error.fix}))
        return 2
    print(json.dumps({"scores": dict(member.scores), "steps": member.steps, "attempt": member.attempt}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
