"""Recipes as plain data, the way back from :mod:`mergery.recipe.grammar`: one spelling for each meaning."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

from mergery.checkpoint import ModelRef
from mergery.recipe.recipe import InputModel, OutputModule, OutputSlice, Recipe
from mergery.recipe.settings import Setting, setting_data
from mergery.tokenizer import ModelToken, TokenizerSettings, TokenSettings, Zero

__all__ = ["digest", "recipe_data"]

_ORDERED = ("modules", "tokens")
"""Mappings whose order says something: that of the result's tensors, and of the tokens that are added."""


def digest(recipe: Recipe) -> str:
    """A hash of what the recipe says, however it is written: 64 hexadecimal digits."""
    canonical = json.dumps(_canonical(recipe_data(recipe)), separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()


def _canonical(data: object, key: str = "") -> object:
    """Mappings as lists of pairs, sorted where their order says nothing."""
    if isinstance(data, list):
        return [_canonical(entry) for entry in data]
    if not isinstance(data, dict):
        return data
    names = list(data) if key in _ORDERED else sorted(data)
    return [[name, _canonical(data[name], name)] for name in names]


def recipe_data(recipe: Recipe) -> dict[str, object]:
    """The recipe in mergekit's grammar; what says nothing is left out."""
    data: dict[str, object] = {"merge_method": recipe.merge_method}
    if recipe.base_model is not None:
        data["base_model"] = _model(recipe.base_model)
    data |= (
        {"modules": {module.name: _module(module) for module in recipe.modules}}
        if recipe.modules
        else _slices(recipe.slices)
    )
    optional = {
        "parameters": _parameters(recipe.parameters),
        "dtype": recipe.dtype,
        "out_dtype": recipe.out_dtype,
        "seed": recipe.seed,
        **_vocabulary(recipe.tokenizer),
        "chat_template": recipe.chat_template,
        "compat": recipe.compat,
        "unmatched": [{"filter": entry.filter, "action": entry.action} for entry in recipe.unmatched],
    }
    return data | {key: value for key, value in optional.items() if value}


def _model(model: ModelRef | Recipe) -> object:
    return recipe_data(model) if isinstance(model, Recipe) else model.to_data()


def _module(module: OutputModule) -> dict[str, object]:
    parameters = _parameters(module.parameters)
    return _slices(module.slices) | ({"parameters": parameters} if parameters else {})


def _slices(parts: Sequence[OutputSlice]) -> dict[str, object]:
    """``models:`` for one slice of all layers, otherwise ``slices:``."""
    first = parts[0]
    ranged = any(source.layer_range for source in first.sources)
    if len(parts) == 1 and not ranged and not first.parameters and first.base_model is None:
        return {"models": [_source(source) for source in first.sources]}
    return {"slices": [_slice(part) for part in parts]}


def _slice(part: OutputSlice) -> dict[str, object]:
    data: dict[str, object] = {"sources": [_source(source) for source in part.sources]}
    if part.base_model is not None:
        data["base_model"] = _model(part.base_model)
    if part.parameters:
        data["parameters"] = _parameters(part.parameters)
    return data


def _source(source: InputModel) -> dict[str, object]:
    data: dict[str, object] = {"model": _model(source.model)}
    if source.layer_range:
        data["layer_range"] = list(source.layer_range)
    if source.parameters:
        data["parameters"] = _parameters(source.parameters)
    return data


def _parameters(parameters: Mapping[str, Setting]) -> dict[str, object]:
    return {name: setting_data(setting) for name, setting in parameters.items()}


def _vocabulary(settings: TokenizerSettings | None) -> dict[str, object]:
    """``tokenizer_source:`` if that says it all, which older readers know, too; else ``tokenizer:``."""
    if settings is None:
        return {}
    source = _spelled(settings.source) if isinstance(settings.source, ModelRef) else settings.source
    if not settings.tokens and settings.pad_to_multiple_of is None:
        return {"tokenizer_source": source}
    data: dict[str, object] = {"source": source}
    if settings.tokens:
        data["tokens"] = {token: _token(wanted) for token, wanted in settings.tokens.items()}
    if settings.pad_to_multiple_of is not None:
        data["pad_to_multiple_of"] = settings.pad_to_multiple_of
    return {"tokenizer": data}


def _spelled(source: ModelRef) -> object:
    """The model, as a mapping where its path alone could be taken for ``union`` or ``base``."""
    if "/" in source.path and not source.path.startswith("model:"):
        return source.to_data()
    part = {"path": source.path} | ({"revision": source.revision} if source.revision else {})
    return {"model": part} | ({"lora": source.adapter.to_data()} if source.adapter else {})


def _token(settings: TokenSettings) -> dict[str, object]:
    data: dict[str, object] = {}
    match settings.source:
        case Zero():
            data["source"] = {"kind": "zero"}
        case ModelToken(model, token, token_id):
            which = {"token_id": token_id} if token is None else {"token": token}
            data["source"] = {"kind": "model_token", "model": model.to_data(), **which}
        case ModelRef():
            data["source"] = settings.source.to_data()
    return data | ({"force": True} if settings.force else {})
