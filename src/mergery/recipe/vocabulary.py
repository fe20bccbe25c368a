"""Reading what a recipe says about tokenizer and chat template."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from mergery.checkpoint import ModelRef
from mergery.errors import RecipeError, near_miss
from mergery.recipe.mistakes import Mistakes, nearest, place, shown
from mergery.recipe.values import choice, switch, text, whole
from mergery.tokenizer import ModelToken, TokenizerSettings, TokenSettings, Zero

__all__ = ["ReadModel", "TokenizerReader", "read_chat_template"]

ReadModel = Callable[[object, str], ModelRef]
"""A model position's data and its place in; the model out, or a :class:`RecipeError`."""

_SOURCES: tuple[Literal["union", "base"], ...] = ("union", "base")
_KINDS = ("zero", "model_token")
_SHORTEST_JINJA = 20
_OLD_PREFIX = "model:"  # mergekit 0.0.4's, before a model in tokenizer_source


class TokenizerReader:
    """Reads ``tokenizer:`` and ``tokenizer_source:``.

    Args:
        mistakes: takes what is wrong.
        model: reads a reference to a model.
        merged: the models whose embeddings are there to take rows from; ``None`` if that is not known.
    """

    def __init__(self, mistakes: Mistakes, model: ReadModel, merged: tuple[ModelRef, ...] | None) -> None:
        self._mistakes, self._model, self._merged = mistakes, model, merged

    def read(self, fields: Mapping[str, object], where: str) -> TokenizerSettings | None:
        """The settings in a recipe's keys; ``tokenizer_source: X`` is ``tokenizer: {source: X}``."""
        spot = place(where, ("tokenizer",))
        source = fields.get("tokenizer_source")
        if "tokenizer" in fields:
            if source is not None:
                self._mistakes.add(
                    f"{spot}: stands beside tokenizer_source, which says the same",
                    fix="move that to source: in tokenizer:",
                )
            return self._settings(fields["tokenizer"], spot)
        if source is None:
            return None
        found = self._mistakes.attempt(self._source, source, place(where, ("tokenizer_source",)))
        return TokenizerSettings(found) if found else None

    def _settings(self, data: object, where: str) -> TokenizerSettings:
        fields = self._mistakes.mapping(data, where, ("source", "tokens", "pad_to_multiple_of"))
        attempt = self._mistakes.attempt
        source = attempt(self._source, fields.get("source", "union"), f"{where}.source")
        multiple = None
        if "pad_to_multiple_of" in fields:
            multiple = attempt(whole, fields["pad_to_multiple_of"], f"{where}.pad_to_multiple_of", low=1)
        return TokenizerSettings(source or "union", self._tokens(fields.get("tokens"), where), multiple)

    def _source(self, data: object, where: str) -> Literal["union", "base"] | ModelRef:
        for name in _SOURCES:
            if data == name:
                return name
        if isinstance(data, str):
            data = data.removeprefix(_OLD_PREFIX)
        found = self._model(data, where)
        meant = nearest(found.path, _SOURCES) if isinstance(data, str) and "/" not in found.path else None
        if meant and found not in (self._merged or ()):
            raise RecipeError(
                f"{where}: {found} is neither union, nor base, nor a model that is merged here",
                fix=f"did you mean {meant}? A directory of that name is written ./{found.path}",
            )
        return found

    def _tokens(self, data: object, where: str) -> dict[str, TokenSettings]:
        tokens: dict[str, TokenSettings] = {}
        spot = f"{where}.tokens"
        if data is not None and not isinstance(data, Mapping):
            self._mistakes.add(
                f"{spot}: expected a mapping, got {shown(data)}", fix="write token: {source: ...}"
            )
            return tokens
        for token, settings in (data or {}).items():
            if not isinstance(token, str):
                self._mistakes.add(f"{spot}: {token!r} is not a text", fix="put the token in quotes")
            else:
                tokens[token] = self._token(settings, f"{spot}.{token}")
        return tokens

    def _token(self, data: object, where: str) -> TokenSettings:
        fields = self._mistakes.mapping(data, where, ("source", "force"))
        source = fields.get("source")
        force = self._mistakes.attempt(switch, fields.get("force", False), f"{where}.force")
        if source is None:
            return TokenSettings(force=bool(force))
        spot = f"{where}.source"
        if not isinstance(source, Mapping) or not {"kind", "token", "token_id"} & source.keys():
            return TokenSettings(self._mistakes.attempt(self._owner, source, spot), bool(force))
        kind = source.get("kind")
        if (
            kind is not None
            and self._mistakes.attempt(choice, kind, f"{spot}.kind", _KINDS, kind="kind") is None
        ):
            return TokenSettings(force=bool(force))
        if kind == "zero":
            self._mistakes.mapping(source, spot, ("kind",))
            return TokenSettings(Zero(), bool(force))
        return TokenSettings(self._model_token(source, spot), bool(force))

    def _model_token(self, data: object, where: str) -> ModelToken | None:
        known = ("kind", "model", "token", "token_id")
        fields = self._mistakes.mapping(data, where, known, required=known[:2])
        attempt = self._mistakes.attempt
        if ("token" in fields) == ("token_id" in fields):
            self._mistakes.add(
                f"{where}: needs token or token_id, and only one of them", fix="write token: ..."
            )
            return None
        model = attempt(self._owner, fields["model"], f"{where}.model") if "model" in fields else None
        token = attempt(text, fields["token"], f"{where}.token") if "token" in fields else None
        row = attempt(whole, fields["token_id"], f"{where}.token_id", low=0) if "token_id" in fields else None
        if model is None or (token is None and row is None):
            return None
        return ModelToken(model, token, row)

    def _owner(self, data: object, where: str) -> ModelRef:
        """A model from which rows are taken: one of those that are merged."""
        model = self._model(data, where)
        if self._merged is not None and model not in self._merged:
            raise RecipeError(
                f"{where}: {model} is not merged here, so there is no row to take from it",
                fix=near_miss(str(model), map(str, self._merged)),
            )
        return model


def read_chat_template(data: object, where: str) -> str:
    """``auto``, the name of a known template, or Jinja text, which is at least 20 characters with a ``{``."""
    from mergery.tokenizer import CHAT_TEMPLATES, resolve_chat_template

    template = text(data, where)
    known = ("auto", *CHAT_TEMPLATES)
    if template in known:
        return template
    if len(template) < _SHORTEST_JINJA or "{" not in template:
        raise RecipeError(
            f"{where}: {shown(template)} is neither a known template nor Jinja text",
            fix=near_miss(template, known),
        )
    try:
        resolve_chat_template(template, ())
    except RecipeError as problem:
        reason = problem.message.removeprefix("chat_template: ")
        raise RecipeError(f"{where}: {reason}", fix=problem.fix) from problem
    return template
