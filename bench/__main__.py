"""``python -m bench [NAME ...]``: run all measurements, or those named."""

from __future__ import annotations

import importlib
import sys

BENCHES = ("candidate", "agreement", "demo", "zoo")


def main() -> int:
    """Run what was asked for; unknown names are an error."""
    asked = sys.argv[1:] or list(BENCHES)
    unknown = [name for name in asked if name not in BENCHES]
    if unknown:
        print(f"unknown: {', '.join(unknown)}; there are {', '.join(BENCHES)}")
        return 2
    for name in asked:
        importlib.import_module(f"bench.{name}").main()
    return 0


if __name__ == "__main__":
    sys.exit(main())
