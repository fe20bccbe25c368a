"""Do the models of a recipe suit its method: the base's role, their number, the values they need."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mergery.checkpoint import ModelRef
from mergery.methods import MergeMethod
from mergery.recipe.mistakes import Mistakes
from mergery.recipe.recipe import InputModel, Recipe

__all__ = ["Lineup", "check_roles"]


@dataclass(frozen=True)
class Lineup:
    """What is merged in one slice.

    Attributes:
        where: its place in the recipe.
        sources: the models listed.
        base: the base that counts.
        given: names of the parameters that the slice, its module or the recipe has a value of.
    """

    where: str
    sources: tuple[InputModel, ...]
    base: ModelRef | Recipe | None
    given: frozenset[str]

    @property
    def listed(self) -> list[ModelRef | Recipe]:
        """The models of the sources."""
        return [source.model for source in self.sources]


def check_roles(method: MergeMethod, lineups: Sequence[Lineup], mistakes: Mistakes) -> None:
    """Put down every slice whose models the method cannot merge; what all slices lack is said once."""
    for wrong in (_check_base, _check_needs):
        for lineup in lineups:
            before = len(mistakes.found)
            wrong(method, lineup, mistakes)
            if len(mistakes.found) > before:
                break
    for lineup in lineups:
        _check_listed(method, lineup, mistakes)
        _check_count(method, lineup, mistakes)


def _check_base(method: MergeMethod, lineup: Lineup, mistakes: Mistakes) -> None:
    if method.base in ("required", "first") and lineup.base is None:
        mistakes.add(f"{lineup.where}: {method.name} needs a base", fix="add base_model:")
    if method.base == "forbidden" and lineup.base is not None:
        mistakes.add(f"{lineup.where}: {method.name} has no use for a base", fix="remove base_model:")


def _check_needs(method: MergeMethod, lineup: Lineup, mistakes: Mistakes) -> None:
    """Every parameter without a default is given somewhere; the base needs no values of its own."""
    for parameter in method.parameters.values():
        if parameter.default is not None or parameter.name in lineup.given:
            continue
        lacking = [
            source.model
            for source in lineup.sources
            if source.model != lineup.base and parameter.name not in source.parameters
        ]
        if lacking or not parameter.per_model:
            owner = f" for {_label(lacking[0])}" if parameter.per_model else ""
            mistakes.add(
                f"{lineup.where}: {method.name} needs {parameter.name}{owner}",
                fix=f"add parameters: {{{parameter.name}: ...}}",
            )


def _check_listed(method: MergeMethod, lineup: Lineup, mistakes: Mistakes) -> None:
    listed, base = lineup.listed, lineup.base
    repeated = next((model for index, model in enumerate(listed) if model in listed[:index]), None)
    if repeated is not None and not any(source.layer_range for source in lineup.sources):
        mistakes.add(
            f"{lineup.where}: {_label(repeated)} is listed twice",
            fix="list it once, with the sum of its weights",
        )
    if method.base == "optional" and base is not None and base not in listed and not _subtracts(method, base):
        mistakes.add(
            f"{lineup.where}: {method.name} averages the models that are listed, and base_model "
            f"{_label(base)} is not",
            fix="list the base with a weight of its own, or remove base_model:",
        )


def _check_count(method: MergeMethod, lineup: Lineup, mistakes: Mistakes) -> None:
    listed, base = lineup.listed, lineup.base
    if method.base in ("required", "first") and base is None:
        return  # that is said, and how many there are meant to be cannot be known
    apart = _subtracts(method, base)
    if apart:
        count = len(listed) - (base in listed)
    else:
        joins = base is not None and base not in listed and method.base not in ("optional", "forbidden")
        count = len(listed) + joins
    low, high = method.models
    if not low <= count <= high:
        wanted = f"{low}" if low == high else f"at least {low}" if count < low else f"at most {high}"
        plural = "" if wanted.endswith(" 1") or wanted == "1" else "s"
        kind = "besides the base" if apart else "in all" if base is None else "with the base"
        mistakes.add(
            f"{lineup.where}: {method.name} takes {wanted} model{plural} {kind}, got {count}",
            fix="change the list of models",
        )


def _subtracts(method: MergeMethod, base: ModelRef | Recipe | None) -> bool:
    """Whether the method merges differences from the base, which is then not one of the models."""
    return base is not None and method.on_task_vectors(based=True)


def _label(model: ModelRef | Recipe) -> str:
    return (
        str(model) if isinstance(model, ModelRef) else f"the result of its inner {model.merge_method} recipe"
    )
