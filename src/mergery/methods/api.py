"""How a merge method is written: a pure function on stacked tensors, declared once by its signature.

::

    @merge_method("task_arithmetic", paper="arXiv:2212.04089")
    def task_arithmetic(task_vectors: TaskVectors, *, weight: PerModel[Real] = each(1.0)) -> Tensor:
        return task_vectors.weighted_sum(weight)

The first parameter's type says what the function works on: :class:`TaskVectors` (differences from the
base; the engine subtracts it before and adds it after) or :class:`Weights` (the models' own tensors).
The keyword-only parameters are the recipe's: their annotations give kind and range, their defaults the
default. A trailing underscore is dropped in recipes (``lambda_`` is ``lambda``). From this one
declaration come the checking of recipes, the error texts, ``mergery methods show``, the search ranges
and the contract tests.

Nothing here imports torch: methods use the tensors' own methods, so recipes can be checked, and
``--help`` answered, without loading it.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, TypeVar, get_args, get_origin, get_type_hints

from mergery.errors import RecipeError, near_miss
from mergery.methods.stack import TaskVectors, Weights
from mergery.registry import Registry

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "Fraction",
    "Interval",
    "MergeMethod",
    "NonNegative",
    "Parameter",
    "PerModel",
    "Real",
    "Value",
    "each",
    "get_method",
    "merge_method",
    "method_names",
]

T = TypeVar("T", float, int, bool)
F = TypeVar("F", bound=Callable[..., "Tensor"])


class PerModel(tuple[T, ...]):
    """One value for each model of the stack, in the stack's order."""

    __slots__ = ()


Value: TypeAlias = "float | int | bool | PerModel[float] | PerModel[int] | PerModel[bool]"
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
        kind: ``float``, ``int`` or ``bool``.
        interval: values admitted; none for ``bool``.
        default: used where the recipe says nothing; ``None`` if the recipe must say.
    """

    name: str
    argument: str
    per_model: bool
    kind: type[float] | type[int] | type[bool]
    interval: Interval | None
    default: float | int | bool | None

    @property
    def search(self) -> tuple[float, float] | None:
        """The range a search takes when none is named."""
        return self.interval.search if self.interval else None

    def check(self, value: float | int | bool, where: str) -> float | int | bool:
        """The value in this parameter's kind.

        Raises:
            RecipeError: if it is not of the kind, or outside the interval.
        """
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
        function: ``(stack, **parameters) -> (n,) float32``.
        paper: where it is defined.
        parameters: by recipe name, in the order of the signature.
        on_task_vectors: works on differences from the base, not on the weights.
        base: ``required``, ``optional`` or ``forbidden`` in the recipe; ``first`` if it is required and
            the stack's first model.
        models: smallest and largest number of tensors in the stack.
        random: draws a mask, so that the order of models matters.
        ignores: parameters that other tools write and that change nothing here.
    """

    name: str
    function: Callable[..., Tensor]
    paper: str
    parameters: Mapping[str, Parameter]
    on_task_vectors: bool
    base: str
    models: tuple[int, float]
    random: bool
    ignores: tuple[str, ...]

    @property
    def summary(self) -> str:
        """The docstring's first line."""
        return self.documentation.partition("\n")[0]

    @property
    def documentation(self) -> str:
        """The whole docstring."""
        return inspect.getdoc(self.function) or ""

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

    def __call__(self, stack: TaskVectors | Weights, values: Mapping[str, Value]) -> Tensor:
        """Merge one stack; ``values`` go by recipe name."""
        return self.function(
            stack, **{parameter.argument: values[name] for name, parameter in self.parameters.items()}
        )


_METHODS: Registry[MergeMethod] = Registry(
    "merge method",
    "mergery.methods",
    tuple(
        f"mergery.methods.{family}" for family in ("averaging", "task_arithmetic", "spherical", "passthrough")
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
    ignores: tuple[str, ...] = (),
) -> Callable[[F], F]:
    """Register a function as the merge method ``name``.

    Args:
        name: as recipes write it.
        paper: where the method is defined: an arXiv number, or a project.
        base: ``required``, ``optional``, ``forbidden`` or ``first``; by default ``required`` for
            functions of task vectors and ``optional`` for functions of weights.
        models: smallest and largest number of tensors in the stack.
        random: whether it draws from :meth:`Stack.uniform`.
        ignores: parameters to accept without effect.
    """

    def register(function: F) -> F:
        hints = get_type_hints(function, _Names(function.__globals__), include_extras=True)
        stack, *keywords = inspect.signature(function).parameters.values()
        on_task_vectors = hints[stack.name] is TaskVectors
        declared = [_declare(keyword, hints[keyword.name]) for keyword in keywords]
        _METHODS.add(
            name,
            MergeMethod(
                name=name,
                function=function,
                paper=paper,
                parameters={parameter.name: parameter for parameter in declared},
                on_task_vectors=on_task_vectors,
                base=base or ("required" if on_task_vectors else "optional"),
                models=models,
                random=random,
                ignores=ignores,
            ),
        )
        return function

    return register


class _Names(dict[str, Any]):
    """A module's names, with ``Tensor`` standing for a class that only type checkers import."""

    def __missing__(self, name: str) -> object:
        if name == "Tensor":
            return object
        raise KeyError(name)


def _declare(keyword: inspect.Parameter, hint: Any) -> Parameter:
    """Read one keyword-only parameter of a method."""
    per_model = get_origin(hint) is PerModel
    if per_model:
        (hint,) = get_args(hint)
    interval = next((extra for extra in get_args(hint)[1:] if isinstance(extra, Interval)), None)
    kind = get_args(hint)[0] if interval else hint
    default = None if keyword.default is inspect.Parameter.empty else keyword.default
    return Parameter(
        name=keyword.name.removesuffix("_"),
        argument=keyword.name,
        per_model=per_model,
        kind=kind,
        interval=interval,
        default=default[0] if isinstance(default, PerModel) else default,
    )
