"""Plain merges of a space's models: tried before a search, and shown beside what it found."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import cast

from mergery.errors import MergeryError
from mergery.evolve.candidate import Candidate
from mergery.evolve.space import SearchSpace
from mergery.evolve.study import Reference
from mergery.recipe import Recipe

__all__ = ["plain_merges", "task_arithmetic", "uniform"]

SCALES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
"""Scales of tuned task arithmetic: the range that its paper searches (arXiv:2212.04089)."""

_KEPT = ("dtype", "out_dtype", "tokenizer", "tokenizer_source")
"""What the plain merges take over from the space's recipe."""

_DEFAULTS: Mapping[str, Mapping[str, object]] = {
    "ties": {"density": 0.2},
    "dare_ties": {"density": 0.5},
    "model_stock": {},
}
"""Methods that people try first, at their papers' settings."""


def plain_merges(space: SearchSpace) -> tuple[Reference, ...]:
    """TIES, DARE-TIES and Model Stock of the same models, where they can be merged so."""
    found = []
    for method, parameters in _DEFAULTS.items():
        with suppress(MergeryError):
            recipe = Recipe.from_dict(_plain(space, method) | {"parameters": dict(parameters)})
            found.append(Reference(method, Candidate(recipe)))
    return tuple(found)


def uniform(space: SearchSpace) -> Recipe | None:
    """The plain average of the experts; ``None`` if they cannot be averaged."""
    with suppress(MergeryError):
        return Recipe.from_dict(_plain(space, "linear"))
    return None


def task_arithmetic(space: SearchSpace) -> Iterator[tuple[float, Recipe]]:
    """Task arithmetic at every scale of ``SCALES``, one scale for all experts; nothing without a base."""
    for scale in SCALES:
        with suppress(MergeryError):
            data = _plain(space, "task_arithmetic")
            yield scale, Recipe.from_dict(data | {"parameters": {"weight": scale}})


def _plain(space: SearchSpace, method: str) -> dict[str, object]:
    """The experts of the space's recipe, merged otherwise."""
    skeleton = space.skeleton
    base = {} if method == "linear" else {"base_model": skeleton.get("base_model")}
    models = cast(list[Mapping[str, object]], skeleton.get("models") or [])
    experts = [{"model": entry["model"]} for entry in models if entry["model"] != skeleton.get("base_model")]
    kept = {
        key: skeleton[key]
        for key in ("dtype", "out_dtype", "tokenizer", "tokenizer_source")
        if key in skeleton
    }
    return {"merge_method": method, **base, "models": experts, **kept}
