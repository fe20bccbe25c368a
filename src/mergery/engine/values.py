"""A method's parameters for each tensor, looked up in the levels of a recipe."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias, cast

from mergery.errors import RecipeError
from mergery.methods import MergeMethod, Parameter, PerModel, Value
from mergery.recipe import Setting
from mergery.recipe.settings import evaluate

__all__ = ["Values", "defaults"]

_Chain: TypeAlias = tuple[Setting, ...]
"""What the levels say about one parameter, the level that counts first."""


class Values:
    """The parameters of the models of one slice.

    Args:
        method: whose parameters.
        own: what each model says, in the order of the models.
        shared: what is said for all: slice, module, recipe, in this order.
        compat: the recipe's; with it, what nobody says is as mergekit has it.
    """

    def __init__(
        self,
        method: MergeMethod,
        own: Sequence[Mapping[str, Setting]],
        shared: Sequence[Mapping[str, Setting]],
        compat: str | None = None,
    ) -> None:
        if compat:
            shared = (*shared, method.mergekit)
        self._chains: list[tuple[Parameter, tuple[_Chain, ...]]] = []
        for parameter in method.parameters.values():
            levels = [[model, *shared] for model in own] if parameter.per_model else [list(shared)]
            chains = tuple(_chain(parameter.name, level) for level in levels)
            self._chains.append((parameter, chains))
        self._vary = any(
            isinstance(chain[0], tuple) for _, chains in self._chains for chain in chains if chain
        )
        self._fixed: dict[tuple[int, ...], Mapping[str, Value]] = {}

    def of(
        self, output_name: str, models: Sequence[int], names: Sequence[str], position: float
    ) -> Mapping[str, Value]:
        """The parameters for one tensor, by name.

        Args:
            output_name: what the filters of parameters for all models see.
            models: which models have a part in it.
            names: what the filters of each of these models see.
            position: where the layer stands in its slice, 0 to 1.

        Raises:
            RecipeError: if a parameter without a default has no value for this tensor.
        """
        if self._vary:
            return self._evaluated(output_name, models, names, position)
        key = tuple(models)
        if key not in self._fixed:
            self._fixed[key] = self._evaluated(output_name, models, names, position)
        return self._fixed[key]

    def _evaluated(
        self, output_name: str, models: Sequence[int], names: Sequence[str], position: float
    ) -> Mapping[str, Value]:
        values: dict[str, Value] = {}
        for parameter, chains in self._chains:
            if parameter.per_model:
                each = (
                    _value(parameter, chains[model], name, position)
                    for model, name in zip(models, names, strict=True)
                )
                values[parameter.name] = PerModel(cast("list[float]", list(each)))
            else:
                values[parameter.name] = _value(parameter, chains[0], output_name, position)
        return values


def defaults(method: MergeMethod, models: int) -> Mapping[str, Value]:
    """A method's parameters where nothing is said."""
    chains = Values(method, [{}] * models, ())
    return chains.of(method.name, range(models), [method.name] * models, 0.0)


def _chain(name: str, levels: Sequence[Mapping[str, Setting]]) -> _Chain:
    """What the levels say, up to the first whose word is final."""
    chain: list[Setting] = []
    for level in levels:
        if name in level:
            chain.append(level[name])
            if not isinstance(level[name], tuple):
                break
    return tuple(chain)


def _value(parameter: Parameter, chain: _Chain, name: str, position: float) -> float | int | bool | str:
    for setting in chain:
        value = evaluate(setting, name, position)
        if value is not None:
            return parameter.check(value, name)
    if parameter.default is None:
        raise RecipeError(
            f"{name}: no value of {parameter.name} is meant for it",
            fix=f"add an entry of {parameter.name} without a filter",
        )
    return parameter.default
