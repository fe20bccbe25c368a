"""How a merge method is written: a pure function on stacked tensors, declared once by its signature.

::

    @merge_method("task_arithmetic", paper="arXiv:2212.04089")
    def task_arithmetic(task_vectors: TaskVectors, *, weight: PerModel[Real] = each(1.0)) -> Merged:
        return task_vectors.weighted_sum(weight)

The first parameter's type says what the function works on: :class:`TaskVectors` (differences from the
base; the engine subtracts it before and adds it after), :class:`Weights` (the models' own tensors), or
:class:`Stack` (differences if the recipe has a base, else weights). The function is called once for each
tensor, asks the stack for the reductions it needs, and answers with a description of the result
(:mod:`mergery.stack.result`) that the engine computes piece by piece. The keyword-only parameters are the
recipe's: their annotations give kind and range, their defaults the default. A trailing underscore is
dropped in recipes (``lambda_`` is ``lambda``). From this one declaration come the checking of recipes, the
error texts, ``mergery methods show``, the search ranges and the contract tests.

Nothing here imports torch: functions of chunks use the tensors' own methods, so recipes can be checked,
and most merges run, without loading it.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, get_args, get_origin, get_type_hints

from mergery.errors import RecipeError, near_miss
from mergery.registry import Registry
from mergery.stack import Merged, Stack, TaskVectors

__all__ = [
    "Fraction",
    "Interval",
    "MergeMethod",
    "NonNegative",
    "Parameter",
    "PerModel",
    "Real",
    "Scalar",
    "Value",
    "each",
    "get_method",
    "merge_method",
    "method_names",
]

T = TypeVar("T", bound="float | int | bool | str")
F = TypeVar("F", bound=Callable[..., Merged])


class PerModel(tuple[T, ...]):
    """One value for each model of the stack, in the stack's order."""

    __slots__ = ()


Scalar: TypeAlias = "float | int | bool | str"
"""One value of one parameter."""

Value: TypeAlias = "Scalar | PerModel[Scalar]"
"""What a method receives for one parameter."""


@dataclass(frozen=True)
class Interval:
    """The values that a numeric parameter admits, ends included.

    Attributes:
        low: smallest value admitted.
        high: largest value admitted.
        search: the range in which a search looks when its author names none.
    """

    low: float
    high: float
    search: tuple[float, float]

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


# The papers' searched weights summed to about two with two experts (arXiv:2403.13187, Methods), and
# negative weights subtract a skill: hence a range beyond [0, 1].
Real = Annotated[float, Interval(-math.inf, math.inf, (-0.5, 1.5))]
NonNegative = Annotated[float, Interval(0.0, math.inf, (0.0, 1.5))]
Fraction = Annotated[float, Interval(0.0, 1.0, (0.0, 1.0))]


@dataclass(frozen=True)
class Parameter:
    """One parameter of a method, as recipes know it.

    Attributes:
        name: as written in recipes (``lambda``).
        argument: as the function calls it (``lambda_``).
        per_model: whether each model has a value of its own.
        kind: ``float``, ``int``, ``bool`` or ``str``.
        interval: values admitted; none for ``bool`` and ``str``.
        default: used where the recipe says nothing; ``None`` if the recipe must say.
        choices: words admitted, for ``str``.
    """

    name: str
    argument: str
    per_model: bool
    kind: type[float] | type[int] | type[bool] | type[str]
    interval: Interval | None
    default: Scalar | None
    choices: tuple[str, ...] = ()

    @property
    def search(self) -> tuple[float, float] | None:
        """The range a search takes when none is named."""
        return self.interval.search if self.interval else None

    def check(self, value: Scalar, where: str) -> Scalar:
        """The value in this parameter's kind.

        Raises:
            RecipeError: if it is not of the kind, outside the interval, or none of the choices.
        """
        if self.kind is str:
            if value not in self.choices:
                raise RecipeError(
                    f"{where}: {self.name} is one of {', '.join(self.choices)}, got {value}",
                    fix=near_miss(str(value), self.choices),
                )
            return value
        if isinstance(value, str):
            raise RecipeError(f"{where}: {self.name} is a number, got {value!r}", fix="write a number")
        number = float(value)
        if self.kind is bool:
            if number not in (0.0, 1.0):
                raise RecipeError(f"{where}: {self.name} is a switch, got {value}", fix="write true or false")
            return bool(number)
        if not math.isfinite(number):
            raise RecipeError(f"{where}: {self.name} must be finite, got {value}", fix="write a number")
        if self.interval and number not in self.interval:
            raise RecipeError(
                f"{where}: {self.name} is {value:g}, outside [{self.interval.low:g}, {self.interval.high:g}]",
                fix=f"choose {self.name} inside that range",
            )
        if self.kind is int and not number.is_integer():
            raise RecipeError(
                f"{where}: {self.name} is a whole number, got {value:g}", fix="drop the fraction"
            )
        return self.kind(number)


@dataclass(frozen=True)
class MergeMethod:
    """A registered method: its function, and what its signature declares.

    Attributes:
        name: as written in recipes.
        function: ``(stack, **parameters) -> Merged``.
        paper: where it is defined.
        parameters: by recipe name, in the order of the signature.
        on: what its first parameter's type says it works on.
        base: ``required``, ``optional`` or ``forbidden`` in the recipe; ``first`` if it is required and
            the stack's first model; ``listed`` if a base, where there is one, is one more model.
        models: smallest and largest number of tensors in the stack.
        random: draws random numbers, which belong to models by their order.
        ordered: whether the order of models matters otherwise.
        ignores: parameters that other tools write and that change nothing here.
        mergekit: defaults that give mergekit 0.1's result where ours departs from it, for recipes with
            ``compat: mergekit-0.1``.
    """

    name: str
    function: Callable[..., Merged]
    paper: str
    parameters: Mapping[str, Parameter]
    on: type[Stack]
    base: str
    models: tuple[int, float]
    random: bool
    ordered: bool
    ignores: tuple[str, ...]
    mergekit: Mapping[str, Scalar]

    @property
    def summary(self) -> str:
        """The docstring's first line."""
        return self.documentation.partition("\n")[0]

    @property
    def documentation(self) -> str:
        """The whole docstring."""
        return inspect.getdoc(self.function) or ""

    def on_task_vectors(self, based: bool) -> bool:
        """Whether it is given differences from the base, in a recipe with a base or without one."""
        return self.on is TaskVectors or (self.on is Stack and based)

    def default(self, parameter: Parameter, compat: str | None) -> Scalar | None:
        """What a parameter is where the recipe says nothing; ``compat`` as the recipe has it."""
        return self.mergekit.get(parameter.name, parameter.default) if compat else parameter.default

    def parameter(self, name: str, *, where: str) -> Parameter | None:
        """The declared parameter; ``None`` for one that is accepted and changes nothing.

        Raises:
            RecipeError: if this method has no such parameter, naming the near miss.
        """
        if name in self.parameters:
            return self.parameters[name]
        if name in self.ignores:
            return None
        raise RecipeError(
            f"{where}.{name}: unknown parameter of {self.name}",
            fix=near_miss(name, self.parameters) if self.parameters else f"{self.name} has no parameters",
        )

    def __call__(self, stack: Stack, values: Mapping[str, Value]) -> Merged:
        """Merge one stack; ``values`` go by recipe name."""
        return self.function(
            stack, **{parameter.argument: values[name] for name, parameter in self.parameters.items()}
        )


_METHODS: Registry[MergeMethod] = Registry(
    "merge method",
    "mergery.methods",
    tuple(
        f"mergery.methods.{family}"
        for family in (
            "averaging",
            "task_arithmetic",
            "sce",
            "spherical",
            "model_stock",
            "fusion",
            "ram",
            "passthrough",
            "sparse",
            "consensus",
            "emr",
            "pcb",
            "magmax",
            "localize",
            "scaled",
            "rounds",
        )
    ),
    RecipeError,
)


def get_method(name: str, *, where: str = "merge_method") -> MergeMethod:
    """The method registered under ``name``; a RecipeError naming the near miss if there is none."""
    return _METHODS.get(name, where=where)


def method_names() -> tuple[str, ...]:
    """All registered methods, in the order of their families."""
    return tuple(_METHODS)


def each(value: T) -> PerModel[T]:
    """The default of a per-model parameter: ``value`` for every model."""
    return PerModel((value,))


def merge_method(
    name: str,
    *,
    paper: str,
    base: str | None = None,
    models: tuple[int, float] = (1, math.inf),
    random: bool = False,
    ordered: bool = False,
    ignores: tuple[str, ...] = (),
    mergekit: Mapping[str, Scalar] = MappingProxyType({}),
) -> Callable[[F], F]:
    """Register a function as the merge method ``name``.

    Args:
        name: as recipes write it.
        paper: where the method is defined: an arXiv number, or a project.
        base: ``required``, ``optional``, ``forbidden``, ``first`` or ``listed``; by default
            ``required`` for functions of task vectors and ``optional`` for others.
        models: smallest and largest number of tensors in the stack.
        random: whether it draws random numbers.
        ordered: whether the order of models matters otherwise; it does where the base comes first.
        ignores: parameters to accept without effect.
        mergekit: defaults that give mergekit 0.1's result where this method's own depart from it.
    """

    def register(function: F) -> F:
        hints = get_type_hints(function, include_extras=True)
        stack, *keywords = inspect.signature(function).parameters.values()
        on = hints[stack.name]
        declared = [_declare(keyword, hints[keyword.name]) for keyword in keywords]
        _METHODS.add(
            name,
            MergeMethod(
                name=name,
                function=function,
                paper=paper,
                parameters={parameter.name: parameter for parameter in declared},
                on=on,
                base=base or ("required" if on is TaskVectors else "optional"),
                models=models,
                random=random,
                ordered=ordered or base == "first",
                ignores=ignores,
                mergekit=mergekit,
            ),
        )
        return function

    return register


def _declare(keyword: inspect.Parameter, hint: Any) -> Parameter:
    """Read one keyword-only parameter of a method."""
    per_model = get_origin(hint) is PerModel
    if per_model:
        (hint,) = get_args(hint)
    choices = get_args(hint) if get_origin(hint) is Literal else ()
    interval = next((extra for extra in get_args(hint)[1:] if isinstance(extra, Interval)), None)
    kind = str if choices else get_args(hint)[0] if interval else hint
    default = None if keyword.default is inspect.Parameter.empty else keyword.default
    return Parameter(
        name=keyword.name.removesuffix("_"),
        argument=keyword.name,
        per_model=per_model,
        kind=kind,
        interval=interval,
        default=default[0] if isinstance(default, PerModel) else default,
        choices=choices,
    )
