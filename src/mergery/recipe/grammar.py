"""mergekit's grammar, read strictly: plain data in, a checked :class:`Recipe` or all its mistakes out.

Checked here, before any file is opened: keys, values, the method's name, its parameters and their
ranges, the number of models, the role of the base.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias, TypeVar, cast, get_args

from mergery.checkpoint import ModelRef
from mergery.errors import RecipeError
from mergery.methods import MergeMethod, get_method
from mergery.recipe.mistakes import Mistakes, nearest, place, shown
from mergery.recipe.recipe import Action, InputModel, OutputModule, OutputSlice, Recipe, Unmatched
from mergery.recipe.roles import Lineup, check_roles
from mergery.recipe.settings import Check, Setting, read_setting
from mergery.recipe.values import choice, dtype, layer_range, text, whole
from mergery.recipe.vocabulary import TokenizerReader, read_chat_template

__all__ = ["Resolve", "parse_recipe", "read_recipe"]

T = TypeVar("T")

Resolve: TypeAlias = Callable[[str, str], ModelRef | Recipe]
"""What a text in a model's position stands for; its place comes second, and a mistake is raised."""

_BODIES = ("models", "slices", "modules")
_KEYS = (
    "merge_method",
    *_BODIES,
    *("base_model", "parameters", "dtype", "out_dtype", "seed"),
    *("tokenizer", "tokenizer_source", "chat_template", "compat", "unmatched"),
)
_COMPAT = ("mergekit-0.1",)
_NO_EFFECT = {
    "embed_slerp": "old mergekits used it with tokenizer_source, later ones do not",
    "int8_mask": "in mergekit it chooses the type of a mask on the way, which changes no weight",
    "residual_weight": "mergekit reads it and never uses it",
    "override_architecture": "layers are found by the names of the tensors",
}
"""What mergekit's files hold and nothing depends on."""


def parse_recipe(data: object, *, where: str = "") -> Recipe:
    """Check plain data against the grammar and the method's signature.

    Raises:
        RecipeError: the mistake, or a :class:`RecipeErrors` of all, with places below ``where``.
    """
    mistakes = Mistakes()
    recipe = read_recipe(data, where, mistakes)
    mistakes.raise_all()
    assert recipe is not None
    return replace(recipe, notes=tuple(mistakes.notes))


def read_recipe(
    data: object, where: str, mistakes: Mistakes, resolve: Resolve | None = None
) -> Recipe | None:
    """Read one recipe, going on after every mistake.

    Args:
        data: as YAML gave it.
        where: its place, for error texts.
        mistakes: takes what is wrong, and notes.
        resolve: reads the text in a model's position; by default as a reference to a model.

    Returns:
        The recipe; ``None`` if something is wrong with it.
    """
    before = len(mistakes.found)
    fields = mistakes.mapping(data, where, (*_KEYS, "embed_slerp"), required=("merge_method",))
    if not isinstance(data, Mapping):
        return None
    name, method = "", None
    if "merge_method" in fields:
        spot = place(where, ("merge_method",))
        name = mistakes.attempt(text, fields["merge_method"], spot) or ""
        method = mistakes.attempt(get_method, name, where=spot) if name else None
    reader = _Reader(mistakes, resolve or _reference, method)
    recipe = reader.recipe(name, fields, where)
    return recipe if len(mistakes.found) == before else None


@dataclass(frozen=True)
class _Level:
    """What holds for everything below one place.

    Attributes:
        base: the base; ``None`` for none.
        known: whether the base is known; not, if what stands there is wrong.
        given: names of the parameters that have a value.
    """

    base: ModelRef | Recipe | None
    known: bool
    given: frozenset[str]

    def below(self, parameters: Mapping[str, Setting]) -> _Level:
        """The level of a part that has values of its own."""
        return replace(self, given=self.given | parameters.keys())


@dataclass(frozen=True)
class _Reader:
    """Reads the parts of one recipe; each returns ``None`` for a part that is wrong beyond use."""

    mistakes: Mistakes
    resolve: Resolve
    method: MergeMethod | None
    lineups: list[Lineup] = field(default_factory=list)

    def recipe(self, name: str, fields: Mapping[str, object], where: str) -> Recipe:
        """Everything but the method's name, which is known by now."""
        mistakes, before = self.mistakes, len(self.mistakes.found)
        if "embed_slerp" in fields:
            self._without_effect("embed_slerp", where)
        parameters = self.parameters(fields, where)
        level = self._based(_Level(None, True, frozenset()), fields, where).below(parameters)
        body = self._body(fields, where, _BODIES)
        modules = self.modules(fields["modules"], where, level) if "modules" in body else ()
        slices = self.slices(fields, body, where, level)
        if self.method is not None:
            check_roles(self.method, self.lineups, mistakes)
        recipe = Recipe(
            merge_method=name,
            slices=slices,
            modules=modules,
            base_model=level.base,
            parameters=parameters,
            dtype=self._value(fields, "dtype", dtype, where),
            out_dtype=self._value(fields, "out_dtype", dtype, where),
            seed=self._value(fields, "seed", whole, where) or 0,
            chat_template=self._value(fields, "chat_template", read_chat_template, where),
            compat=self._value(fields, "compat", _compat, where),
            unmatched=self.unmatched(fields.get("unmatched"), place(where, ("unmatched",))),
        )
        inputs = recipe.inputs if len(mistakes.found) == before else None
        merged = None if inputs is None else tuple(model for model in inputs if isinstance(model, ModelRef))
        return replace(recipe, tokenizer=TokenizerReader(mistakes, self._stock, merged).read(fields, where))

    def slices(
        self, fields: Mapping[str, object], body: tuple[str, ...], where: str, level: _Level
    ) -> tuple[OutputSlice, ...]:
        """What stands under ``models:`` (one slice) or ``slices:``; where both stand, both are checked."""
        parts: list[OutputSlice | None] = []
        if "models" in body:
            spot = place(where, ("models",))
            entries = self.mistakes.entries(fields["models"], spot)
            sources = [self.source(entry, f"{spot}[{i}]") for i, entry in enumerate(entries)]
            parts.append(self._lineup(sources, {}, level, spot))
        if "slices" in body:
            spot = place(where, ("slices",))
            entries = self.mistakes.entries(fields["slices"], spot)
            parts += [self.slice(entry, f"{spot}[{i}]", level) for i, entry in enumerate(entries)]
        return tuple(part for part in parts if part)

    def slice(self, data: object, where: str, level: _Level) -> OutputSlice | None:
        """One run of layers."""
        known = ("sources", "base_model", "parameters", "residual_weight")
        fields = self.mistakes.mapping(data, where, known, required=("sources",))
        if "residual_weight" in fields:
            self._without_effect("residual_weight", where)
        parameters = self.parameters(fields, where)
        own = self._based(level, fields, where).below(parameters)
        if "sources" not in fields:
            return None
        entries = self.mistakes.entries(fields["sources"], f"{where}.sources")
        sources = [
            self.source(entry, f"{where}.sources[{i}]", ranged=True) for i, entry in enumerate(entries)
        ]
        lengths = [r[1] - r[0] for source in sources if source and (r := source.layer_range)]
        if len(dict.fromkeys(lengths)) > 1:
            self.mistakes.add(
                f"{where}: its sources have {' and '.join(map(str, lengths))} layers",
                fix="give all sources of a slice as many layers",
            )
        part = self._lineup(sources, parameters, own, where)
        return part and replace(part, base_model=own.base if "base_model" in fields else None)

    def source(self, data: object, where: str, *, ranged: bool = False) -> InputModel | None:
        """One model of a slice, with its range of layers if it is ``ranged``."""
        needed = ("model", "layer_range") if ranged else ("model",)
        fields = self.mistakes.mapping(data, where, (*needed, "parameters"), required=needed)
        parameters = self.parameters(fields, where, of_model=True)
        layers = self._value(fields, "layer_range", layer_range, where)
        model = self.model(fields["model"], f"{where}.model") if "model" in fields else None
        return None if model is None else InputModel(model, parameters, layers)

    def modules(self, data: object, where: str, level: _Level) -> tuple[OutputModule, ...]:
        """The parts of a model with several stacks of layers."""
        where = place(where, ("modules",))
        if not isinstance(data, Mapping) or not data:
            self.mistakes.add(
                f"{where}: expected a mapping of modules, got {shown(data)}",
                fix="write modules: {text_decoder: {models: [...]}}",
            )
            return ()
        modules = []
        for name, module in data.items():
            spot = place(where, (name,))
            fields = self.mistakes.mapping(module, spot, (*_BODIES[:2], "parameters"))
            parameters = self.parameters(fields, spot)
            body = self._body(fields, spot, _BODIES[:2]) if isinstance(module, Mapping) else ()
            slices = self.slices(fields, body, spot, level.below(parameters))
            modules.append(OutputModule(self.mistakes.attempt(text, name, spot) or "", slices, parameters))
        return tuple(modules)

    def model(self, data: object, where: str) -> ModelRef | Recipe | None:
        """A model's position: a reference, a recipe, or the name of one."""
        if isinstance(data, Recipe):
            return data
        if isinstance(data, Mapping) and {"merge_method", *_BODIES} & data.keys():
            return read_recipe(data, where, self.mistakes, self.resolve)
        if isinstance(data, str):
            return self.mistakes.attempt(self.resolve, data, where)
        if isinstance(data, Mapping) and not self._reference_keys(data, where):
            return None
        return self.mistakes.attempt(_reference, data, where)

    def parameters(
        self, fields: Mapping[str, object], where: str, *, of_model: bool = False
    ) -> dict[str, Setting]:
        """Values by name. One that is wrong stands as 0, so that it is not said to be missing, too."""
        where = place(where, ("parameters",))
        data = fields.get("parameters", {})
        if not isinstance(data, Mapping):
            self.mistakes.add(f"{where}: expected a mapping, got {shown(data)}", fix="write name: value")
            return {}
        settings: dict[str, Setting] = {}
        for name, value in data.items():
            declared, check = self._declared(str(name), where, of_model=of_model)
            if value is None or declared is None:
                continue
            setting = read_setting(value, f"{where}.{name}", self.mistakes, check)
            settings[declared] = 0.0 if setting is None else setting
        return settings

    def unmatched(self, data: object, where: str) -> tuple[Unmatched, ...]:
        """What to do with tensors that only some models have: a list, or one entry alone."""
        if data is None:
            return ()
        entries = [data] if isinstance(data, Mapping) else self.mistakes.entries(data, where)
        found = []
        for index, entry in enumerate(entries):
            spot = f"{where}[{index}]"
            fields = self.mistakes.mapping(entry, spot, ("filter", "action"), required=("action",))
            pattern = self.mistakes.attempt(text, fields.get("filter", "*"), f"{spot}.filter")
            action = self._value(fields, "action", _action, spot)
            if pattern and action:
                found.append(Unmatched(pattern, action))
        return tuple(found)

    def _declared(self, name: str, where: str, *, of_model: bool) -> tuple[str | None, Check | None]:
        """The parameter that a name means, and its check; no name for one without effect."""
        method = self.method
        if method is None:
            return name, None
        if name not in method.parameters and (name in method.ignores or name in _NO_EFFECT):
            self._without_effect(name, where)
            return None, None
        parameter = self.mistakes.attempt(method.parameter, name, where=where)
        if parameter is None:
            return nearest(name, method.parameters), None
        if of_model and not parameter.per_model:
            self.mistakes.add(
                f"{where}.{name}: {name} of {method.name} is one value for all models",
                fix=f"move {name} to the recipe's own parameters:",
            )
        return name, parameter.check

    def _based(self, level: _Level, fields: Mapping[str, object], where: str) -> _Level:
        """The level with the base that stands among the keys, if there is one."""
        if "base_model" not in fields:
            return level
        base = self.model(fields["base_model"], place(where, ("base_model",)))
        return replace(level, base=base, known=base is not None)

    def _body(self, fields: Mapping[str, object], where: str, names: tuple[str, ...]) -> tuple[str, ...]:
        """Which of ``models``, ``slices`` and ``modules`` is there: exactly one should be."""
        there = tuple(name for name in names if name in fields)
        if len(there) != 1:
            wanted = f"{', '.join(f'{name}:' for name in names[:-1])} or {names[-1]}:"
            got = " and ".join(there) or "none"
            self.mistakes.add(
                f"{where or 'recipe'}: needs {wanted}, and only one of them, got {got}",
                fix="write a models: list" if not there else f"keep {there[0]}: or {there[1]}:",
            )
        return there

    def _lineup(
        self, sources: list[InputModel | None], parameters: dict[str, Setting], level: _Level, where: str
    ) -> OutputSlice | None:
        """A slice of what was read, put down for the check of roles; none if a part of it is missing."""
        found = tuple(source for source in sources if source)
        if not found or len(found) < len(sources):
            return None
        if level.known:
            self.lineups.append(Lineup(where, found, level.base, level.given))
        return OutputSlice(found, parameters)

    def _reference_keys(self, data: Mapping[object, object], where: str) -> bool:
        """Whether a model's mapping has only keys that mean something."""
        before = len(self.mistakes.found)
        if "path" in data:
            self.mistakes.mapping(data, where, ("path", "revision"))
        else:
            fields = self.mistakes.mapping(data, where, ("model", "lora", "override_architecture"))
            if "override_architecture" in fields:
                self._without_effect("override_architecture", where)
            for key in ("model", "lora"):
                if isinstance(part := fields.get(key), Mapping):
                    self.mistakes.mapping(part, f"{where}.{key}", ("path", "revision"))
        return len(self.mistakes.found) == before

    def _stock(self, data: object, where: str) -> ModelRef:
        """A model that is one already: a recipe has no tokenizer to take."""
        found = self.resolve(data, where) if isinstance(data, str) else ModelRef.parse(data, where=where)
        if isinstance(found, ModelRef):
            return found
        raise RecipeError(
            f"{where}: {data} is a recipe of this file, which has no tokenizer before it is merged",
            fix="name one of the models that it merges",
        )

    def _value(
        self, fields: Mapping[str, object], key: str, read: Callable[[object, str], T], where: str
    ) -> T | None:
        """The value of an optional key, read."""
        return self.mistakes.attempt(read, fields[key], place(where, (key,))) if key in fields else None

    def _without_effect(self, name: str, where: str) -> None:
        method = self.method.name if self.method else "it"
        reason = _NO_EFFECT.get(name, f"{method} accepts it and does not use it")
        self.mistakes.note(f"{place(where, (name,))}: has no effect: {reason}")


def _reference(data: object, where: str) -> ModelRef:
    return ModelRef.parse(data, where=where)


def _compat(data: object, where: str) -> str:
    return choice(data, where, _COMPAT, kind="version to agree with")


def _action(data: object, where: str) -> Action:
    return cast(Action, choice(data, where, get_args(Action), kind="action"))
