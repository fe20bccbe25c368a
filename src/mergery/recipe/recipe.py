"""What to merge and how: frozen data, no tensors, no open files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from mergery.checkpoint import ModelRef
from mergery.recipe.settings import Setting, setting_data

__all__ = ["InputModel", "OutputSlice", "Recipe"]


@dataclass(frozen=True)
class InputModel:
    """One model that goes into a slice.

    Attributes:
        model: which.
        parameters: its own values.
        layer_range: first layer and the one after the last; ``None`` for all.
    """

    model: ModelRef
    parameters: Mapping[str, Setting] = field(default_factory=dict)
    layer_range: tuple[int, int] | None = None


@dataclass(frozen=True)
class OutputSlice:
    """A run of the result's layers. ``models:`` is one slice of all layers.

    Attributes:
        sources: what goes into it.
        parameters: values for this slice.
        base_model: its own base, in place of the recipe's.
    """

    sources: tuple[InputModel, ...]
    parameters: Mapping[str, Setting] = field(default_factory=dict)
    base_model: ModelRef | None = None


@dataclass(frozen=True)
class Recipe:
    """A merge, written down. Its YAML is mergekit's.

    Attributes:
        merge_method: a registered method's name.
        slices: the result's layers from bottom to top.
        base_model: the model that task vectors start from.
        parameters: values for everything that does not say its own.
        dtype: type to read the tensors in, before float32.
        out_dtype: type to write; ``dtype``, or the base's own, if ``None``.
        seed: of random masks.
        tokenizer_source: ``base``, or ``None`` for the same.
    """

    merge_method: str
    slices: tuple[OutputSlice, ...]
    base_model: ModelRef | None = None
    parameters: Mapping[str, Setting] = field(default_factory=dict)
    dtype: str | None = None
    out_dtype: str | None = None
    seed: int = 0
    tokenizer_source: str | None = None

    @classmethod
    def load(cls, path: Path | str) -> Recipe:
        """Read and check a recipe's YAML file.

        Raises:
            RecipeError: with the place in the file and the fix.
        """
        from mergery.recipe.border import load_yaml

        return cls.from_dict(load_yaml(Path(path)))

    @classmethod
    def from_yaml(cls, text: str) -> Recipe:
        """Read and check a recipe's YAML text."""
        from mergery.recipe.border import parse_yaml

        return cls.from_dict(parse_yaml(text, where="recipe"))

    @classmethod
    def from_dict(cls, data: Mapping[str, object], *, where: str = "") -> Recipe:
        """Check plain data and make the recipe of it; errors name places below ``where``."""
        from mergery.recipe.grammar import parse_recipe

        return parse_recipe(data, where=where)

    @property
    def models(self) -> tuple[ModelRef, ...]:
        """Every model named, each once: those listed, in their order, then bases that are not listed."""
        named = [source.model for part in self.slices for source in part.sources]
        bases = [part.base_model for part in self.slices] + [self.base_model]
        return tuple(dict.fromkeys([*named, *(base for base in bases if base)]))

    def base_of(self, part: OutputSlice) -> ModelRef | None:
        """The base that counts in one slice."""
        return part.base_model or self.base_model

    def to_dict(self) -> dict[str, object]:
        """Plain data in mergekit's grammar."""
        data: dict[str, object] = {"merge_method": self.merge_method}
        if self.base_model:
            data["base_model"] = self.base_model.to_data()
        first = self.slices[0]
        if len(self.slices) == 1 and not first.parameters and not first.base_model and not _ranged(first):
            data["models"] = [_source_data(source) for source in first.sources]
        else:
            data["slices"] = [_slice_data(part) for part in self.slices]
        if self.parameters:
            data["parameters"] = _parameters_data(self.parameters)
        optional = {
            "dtype": self.dtype,
            "out_dtype": self.out_dtype,
            "tokenizer_source": self.tokenizer_source,
            "seed": self.seed or None,
        }
        return data | {key: value for key, value in optional.items() if value is not None}

    def to_yaml(self) -> str:
        """The recipe as text that :meth:`from_yaml` (and mergekit) reads."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, width=110)

    @property
    def digest(self) -> str:
        """A hash of what the recipe says, whatever the order of its keys: 64 hexadecimal digits."""
        canonical = json.dumps(self.to_dict(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


def _ranged(part: OutputSlice) -> bool:
    return any(source.layer_range for source in part.sources)


def _parameters_data(parameters: Mapping[str, Setting]) -> dict[str, object]:
    return {name: setting_data(setting) for name, setting in parameters.items()}


def _source_data(source: InputModel) -> dict[str, object]:
    data: dict[str, object] = {"model": source.model.to_data()}
    if source.layer_range:
        data["layer_range"] = list(source.layer_range)
    if source.parameters:
        data["parameters"] = _parameters_data(source.parameters)
    return data


def _slice_data(part: OutputSlice) -> dict[str, object]:
    data: dict[str, object] = {"sources": [_source_data(source) for source in part.sources]}
    if part.base_model:
        data["base_model"] = part.base_model.to_data()
    if part.parameters:
        data["parameters"] = _parameters_data(part.parameters)
    return data
