"""``python -m bench [NAME ...]`` or ``python -m bench NAME OPTIONS``: each measurement writes its page."""

from __future__ import annotations

import importlib
import sys

# Without a name, these are run; those below them take hours, or tens of GB of disk, and run by name only.
BENCHES = ("candidate", "agreement", "demo", "zoo")
LONG = ("merging", "growth", "simulate", "search", "paths", "evolving")


def main() -> int:
    """Run what was asked for; unknown names are an error."""
    asked = sys.argv[1:]
    split = next((index for index, word in enumerate(asked) if word.startswith("-")), len(asked))
    names, options = asked[:split] or list(BENCHES), asked[split:]
    unknown = [name for name in names if name not in BENCHES + LONG]
    if unknown or (options and len(names) > 1):
        problem = f"unknown: {', '.join(unknown)}" if unknown else "options go with one name"
        print(f"{problem}; there are {', '.join(BENCHES + LONG)}")
        return 2
    for name in names:
        importlib.import_module(f"bench.{name}").main(options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
