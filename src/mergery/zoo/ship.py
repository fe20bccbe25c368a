"""Make the ready-made weights anew: ``python -m mergery.zoo.ship DIRECTORY``.

Builds the zoo of seed 0 in the directory (or takes the one that is there) and packs the members that are
shipped into the package.
"""

from __future__ import annotations

import sys
from pathlib import Path

from mergery.errors import ZooError
from mergery.zoo.build import build
from mergery.zoo.manifest import MANIFEST, Zoo
from mergery.zoo.ready import READY, pack_zoo


def main() -> int:
    """Build where needed, and pack."""
    directory = Path(sys.argv[1])
    try:
        there = (directory / MANIFEST).is_file()
        zoo = Zoo.open(directory) if there else build(directory, progress=lambda stage, _: print(stage))
        pack_zoo(zoo, READY)
    except ZooError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
