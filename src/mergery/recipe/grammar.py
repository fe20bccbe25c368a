"""mergekit's grammar, read strictly: plain data in, a checked :class:`Recipe` out.

Checked here, before any file is opened: keys, values, the method's name, its parameters and their
ranges, the number of models, the role of the base.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field, field_validator

from mergery.checkpoint import ModelRef
from mergery.errors import RecipeError
from mergery.methods import MergeMethod, get_method
from mergery.recipe.border import Document, checked, place
from mergery.recipe.recipe import InputModel, OutputSlice, Recipe
from mergery.recipe.settings import Setting, numbers, parse_setting

__all__ = ["parse_recipe"]

_DTYPES = ("float32", "float16", "bfloat16")
_NOT_YET = ("modules", "tokenizer", "chat_template")


class _Source(Document):
    model: object
    parameters: dict[str, object] = Field(default_factory=dict)


class _SliceSource(_Source):
    layer_range: tuple[int, int]

    @field_validator("layer_range")
    @classmethod
    def _ordered(cls, value: tuple[int, int]) -> tuple[int, int]:
        if not 0 <= value[0] < value[1]:
            raise ValueError("a layer_range is [first, last + 1] with 0 <= first <= last")
        return value


class _Slice(Document):
    sources: list[_SliceSource] = Field(min_length=1)
    base_model: object = None
    parameters: dict[str, object] = Field(default_factory=dict)


class _Recipe(Document):
    merge_method: str
    models: list[_Source] | None = Field(default=None, min_length=1)
    slices: list[_Slice] | None = Field(default=None, min_length=1)
    base_model: object = None
    parameters: dict[str, object] = Field(default_factory=dict)
    dtype: str | None = None
    out_dtype: str | None = None
    tokenizer_source: str | None = None
    seed: int = 0

    @field_validator("dtype", "out_dtype")
    @classmethod
    def _known(cls, value: str | None) -> str | None:
        name = value.removeprefix("torch.") if value else value
        if name not in (None, *_DTYPES):
            raise ValueError(f"a dtype is one of {', '.join(_DTYPES)}")
        return name

    @field_validator("tokenizer_source")
    @classmethod
    def _base_only(cls, value: str | None) -> str | None:
        if value not in (None, "base"):
            raise ValueError("the tokenizer is taken from the base (tokenizer_source: base)")
        return value


def parse_recipe(data: Mapping[str, object], *, where: str = "") -> Recipe:
    """Check plain data against the grammar and the method's signature.

    Raises:
        RecipeError: for the first thing that is wrong, with its place below ``where``.
    """
    for key in _NOT_YET:
        if key in data:
            raise RecipeError(
                f"{place(where, (key,))}: not supported yet",
                fix=f"remove {key}; the tokenizer and its chat template come from the base model",
            )
    document = checked(_Recipe, data, where=where)
    method = get_method(document.merge_method, where=place(where, ("merge_method",)))
    if (document.models is None) == (document.slices is None):
        raise RecipeError(
            f"{where or 'recipe'}: needs models: or slices:, and only one of them", fix="write a models: list"
        )
    recipe = Recipe(
        merge_method=document.merge_method,
        slices=_slices(document, method, where),
        base_model=_reference(document.base_model, place(where, ("base_model",))),
        parameters=_parameters(document.parameters, method, place(where, ("parameters",))),
        dtype=document.dtype,
        out_dtype=document.out_dtype,
        seed=document.seed,
        tokenizer_source=document.tokenizer_source,
    )
    for index, part in enumerate(recipe.slices):
        spot = place(where, ("models",) if document.slices is None else ("slices", index))
        _check_models(recipe, part, method, spot)
        _check_required(recipe, part, method, spot)
    return recipe


def _slices(document: _Recipe, method: MergeMethod, where: str) -> tuple[OutputSlice, ...]:
    if document.slices is None:
        spot = place(where, ("models",))
        return (
            OutputSlice(
                tuple(_source(s, method, f"{spot}[{i}]") for i, s in enumerate(document.models or ()))
            ),
        )
    parts = []
    for index, part in enumerate(document.slices):
        spot = place(where, ("slices", index))
        sources = tuple(_source(s, method, f"{spot}.sources[{i}]") for i, s in enumerate(part.sources))
        lengths = [end - start for source in sources if (r := source.layer_range) for start, end in [r]]
        if min(lengths) != max(lengths):
            raise RecipeError(
                f"{spot}: its sources have {' and '.join(map(str, lengths))} layers",
                fix="give all sources of a slice as many layers",
            )
        parts.append(
            OutputSlice(
                sources,
                _parameters(part.parameters, method, f"{spot}.parameters"),
                _reference(part.base_model, f"{spot}.base_model"),
            )
        )
    return tuple(parts)


def _source(document: _Source, method: MergeMethod, where: str) -> InputModel:
    parameters = _parameters(document.parameters, method, f"{where}.parameters")
    for name in parameters:
        if not method.parameters[name].per_model:
            raise RecipeError(
                f"{where}.parameters.{name}: {name} of {method.name} is one value for all models",
                fix=f"move {name} to the recipe's own parameters:",
            )
    return InputModel(
        model=ModelRef.parse(document.model, where=f"{where}.model"),
        parameters=parameters,
        layer_range=document.layer_range if isinstance(document, _SliceSource) else None,
    )


def _reference(data: object, where: str) -> ModelRef | None:
    return None if data is None else ModelRef.parse(data, where=where)


def _parameters(data: Mapping[str, object], method: MergeMethod, where: str) -> dict[str, Setting]:
    settings: dict[str, Setting] = {}
    for name, value in data.items():
        parameter = method.parameter(name, where=where)
        if parameter is None or value is None:
            continue
        settings[name] = parse_setting(value, where=f"{where}.{name}")
        for number in numbers(settings[name]):
            parameter.check(number, f"{where}.{name}")
    return settings


def _check_models(recipe: Recipe, part: OutputSlice, method: MergeMethod, where: str) -> None:
    """The base's role and the number of models, for one slice."""
    base = recipe.base_of(part)
    listed = [source.model for source in part.sources]
    repeated = next((model for index, model in enumerate(listed) if model in listed[:index]), None)
    if repeated and not any(source.layer_range for source in part.sources):
        raise RecipeError(
            f"{where}: {repeated} is listed twice", fix="list it once, with the sum of its weights"
        )
    if method.base in ("required", "first") and base is None:
        raise RecipeError(f"{where}: {method.name} needs a base", fix="add base_model:")
    if method.base == "forbidden" and base is not None:
        raise RecipeError(f"{where}: {method.name} has no use for a base", fix="remove base_model:")
    if method.base == "optional" and base is not None and base not in listed:
        raise RecipeError(
            f"{where}: {method.name} averages the models that are listed, and base_model {base} is not",
            fix="list the base with a weight of its own, or remove base_model:",
        )
    count = sum(model != base for model in listed) if method.base == "required" else len(listed)
    if method.base == "first" and base not in listed:
        count += 1
    low, high = method.models
    if not low <= count <= high:
        wanted = f"{low}" if low == high else f"at least {low}"
        kind = "besides the base" if method.base == "required" else "with the base" if base else "in all"
        raise RecipeError(
            f"{where}: {method.name} takes {wanted} model{'s' * (low != 1)} {kind}, got {count}",
            fix="change the list of models",
        )


def _check_required(recipe: Recipe, part: OutputSlice, method: MergeMethod, where: str) -> None:
    """Every parameter without a default is given somewhere."""
    for parameter in method.parameters.values():
        if parameter.default is not None or parameter.name in {**recipe.parameters, **part.parameters}:
            continue
        base = recipe.base_of(part)
        for source in part.sources:
            if not parameter.per_model or (source.model != base and parameter.name not in source.parameters):
                raise RecipeError(
                    f"{where}: {method.name} needs {parameter.name}",
                    fix=f"add parameters: {{{parameter.name}: ...}}",
                )
