"""Every method called for every tensor before a weight is read.

Some mistakes show only when a tensor's parameters come together: weights that sum to zero, a density and an
epsilon that make no probability. Methods look for them first, so they are found without any data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from mergery.errors import RecipeError
from mergery.stack import TaskVectors, Weights

if TYPE_CHECKING:
    from mergery.engine.plan import Plan

__all__ = ["rehearse"]

_MOST = 10


class _Begun(Exception):  # noqa: N818 - not an error
    """A method has asked for data."""


class _Unread:
    """Stands where tensors would be read and reduced."""

    def __getattr__(self, name: str) -> NoReturn:
        raise _Begun


def rehearse(plan: Plan) -> None:
    """Call the methods as the merge will, up to where they need data.

    Raises:
        RecipeError: naming a tensor for each mistake, up to ten.
    """
    unread: Any = _Unread()
    tried, mistakes = set(), dict[str, RecipeError]()
    for job in plan.jobs:
        called = (job.method.name, tuple(job.values.values()), job.output.shape)
        if called in tried or not job.output.is_float:
            continue
        tried.add(called)
        kind = Weights if job.base is None else TaskVectors
        based = job.base is not None
        stack = kind(unread, len(job.inputs), job.output.shape, plan.place(job), unread, based)
        try:
            job.method(stack, job.values)
        except _Begun:
            pass
        except RecipeError as mistake:
            mistakes.setdefault(
                mistake.message, RecipeError(f"{job.name}: {mistake.message}", fix=mistake.fix)
            )
    if mistakes:
        found = list(mistakes.values())
        raise RecipeError("\n".join(mistake.message for mistake in found[:_MOST]), fix=found[0].fix)
