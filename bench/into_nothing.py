"""One merge whose result is thrown away, as a process: ``python -m bench.into_nothing RECIPE [--plan]``.

Prints JSON: the seconds of planning and of merging, the bytes read, the number of tensors. ``--plan`` stops
after the planning.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

from mergery import Recipe
from mergery.engine import Plan, make_plan
from mergery.engine.execute import execute
from mergery.engine.inputs import Inputs
from mergery.engine.machine import merging_threads
from mergery.engine.sink import NullSink
from mergery.engine.source import DiskSource


def run(plan: Plan) -> None:
    """Execute the plan, and keep nothing."""
    threads = merging_threads()
    with DiskSource() as source:
        execute(plan, Inputs(source, device="cpu", threads=threads), NullSink(), threads=threads)


def main() -> None:
    """Plan, merge, say how long it took."""
    path, *options = sys.argv[1:]
    begin = time.perf_counter()
    plan = make_plan(Recipe.load(Path(path)))
    planned = time.perf_counter()
    if "--plan" not in options:
        run(plan)
    facts = {
        "plan_s": planned - begin,
        "merge_s": time.perf_counter() - planned,
        "bytes_read": plan.bytes_read,
        "tensors": len(plan.jobs),
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
