"""What a search will cost, for people."""

from __future__ import annotations

from pathlib import Path

from mergery.cli.screen import console, load_without_bars, size

__all__ = ["print_forecasts"]


def print_forecasts(
    search: Path, out: Path, *, device: str, workers: int | None, launcher: str | None
) -> None:
    """Try a few candidates of a search, and say what it will cost."""
    from mergery.evolve.forecast import Forecast, forecast

    def lines(found: Forecast) -> list[str]:
        cost, spent = found.item_evaluations, found.seconds
        evaluations = ", ".join(f"{cost[step]:,} {step}" for step in cost if cost[step])
        parts = ", ".join(f"{step} {_duration(spent[step])}" for step in spent)
        kinds = f"{found.gradients} of them gradients, {found.given_up} given up"
        done = f", {found.done} of them done" if found.done else ""
        at_once = f", {found.workers} at a time" if found.workers > 1 else ""
        return [
            f"space   {found.dimensions} dimensions, searched by {found.algorithm}",
            f"trials  {found.trials} ({kinds}){done}; {found.candidate_seconds:.2g} s each{at_once}",
            f"items   {evaluations}",
            f"time    {_duration(found.total_seconds)}: {parts}",
            f"memory  {size(found.memory)}",
            f"disk    {size(found.model_bytes)} for the model, {size(found.record_bytes)} for the record",
        ]

    load_without_bars()
    for found in forecast(search, out, device=device, workers=workers, launcher=launcher):
        for line in (f"{found.out}", *lines(found)):
            console.print(line, markup=False)
    console.print("nothing was written", markup=False)


def _duration(seconds: float) -> str:
    """``2 h 05 min``, ``3 min 20 s``, ``4.1 s``."""
    if seconds < 60:
        return f"{seconds:.2g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
