"""What to merge and how: frozen data, no tensors, no open files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeAlias

import yaml

from mergery.checkpoint import ModelRef
from mergery.recipe.settings import Setting
from mergery.tokenizer import TokenizerSettings

__all__ = ["Action", "InputModel", "OutputModule", "OutputSlice", "Recipe", "Unmatched"]

Action: TypeAlias = Literal["copy", "drop", "merge"]


@dataclass(frozen=True)
class InputModel:
    """One model that goes into a slice.

    Attributes:
        model: which; or a recipe, whose result it is.
        parameters: its own values.
        layer_range: first layer and the one after the last; ``None`` for all.
    """

    model: ModelRef | Recipe
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
    base_model: ModelRef | Recipe | None = None


@dataclass(frozen=True)
class OutputModule:
    """One part of a model that has several stacks of layers: a text decoder, a vision tower.

    Attributes:
        name: as the architecture calls it: its tensors' names begin with it.
        slices: its layers from bottom to top; ``models:`` is one slice of all.
        parameters: values for this module.
    """

    name: str
    slices: tuple[OutputSlice, ...]
    parameters: Mapping[str, Setting] = field(default_factory=dict)


@dataclass(frozen=True)
class Unmatched:
    """What becomes of tensors that only some of the models have.

    Attributes:
        filter: a part of the tensor's name, or a pattern of the whole name with ``*`` and ``?``.
        action: ``copy`` takes the first listed model's that has it, ``drop`` leaves it out, ``merge``
            merges those there are.
    """

    filter: str
    action: Action

    def fits(self, name: str) -> bool:
        """Whether the tensor ``name`` is meant."""
        if "*" in self.filter or "?" in self.filter:
            return fnmatchcase(name, self.filter)
        return self.filter in name


@dataclass(frozen=True, eq=False)
class Recipe:
    """A merge, written down. Its YAML is mergekit's.

    Attributes:
        merge_method: a registered method's name.
        slices: the result's layers from bottom to top; empty if there are modules.
        base_model: the model that task vectors start from.
        parameters: values for everything that does not say its own.
        dtype: type to read the tensors in, before float32.
        out_dtype: type to write; ``dtype``, or the base's own, if ``None``.
        seed: of random masks.
        modules: the result's parts, if it is written by parts.
        tokenizer: the result's vocabulary; the base's as it is if ``None``.
        chat_template: ``auto``, the name of a known template, or Jinja text; the base's if ``None``.
        compat: the version of mergekit whose defects are restored (``mergekit-0.1``).
        unmatched: what to do with tensors that only some models have; the first that fits counts, and
            a tensor that none fits is an error.
        notes: what in the text has no effect, in words for its author; no part of what the recipe says.
    """

    merge_method: str
    slices: tuple[OutputSlice, ...] = ()
    base_model: ModelRef | Recipe | None = None
    parameters: Mapping[str, Setting] = field(default_factory=dict)
    dtype: str | None = None
    out_dtype: str | None = None
    seed: int = 0
    modules: tuple[OutputModule, ...] = ()
    tokenizer: TokenizerSettings | None = None
    chat_template: str | None = None
    compat: str | None = None
    unmatched: tuple[Unmatched, ...] = ()
    notes: tuple[str, ...] = ()

    @classmethod
    def load(cls, path: Path | str) -> Recipe:
        """Read and check a recipe's YAML file; of several documents, the last recipe with the others in it.

        Raises:
            RecipeError: with the places in the file and the fixes.
        """
        from mergery.recipe.documents import read_file

        return read_file(Path(path)).sound()

    @classmethod
    def from_yaml(cls, text: str) -> Recipe:
        """Read and check a recipe's YAML text."""
        from mergery.recipe.documents import read_yaml

        return read_yaml(text).sound()

    @classmethod
    def from_dict(cls, data: Mapping[str, object], *, where: str = "") -> Recipe:
        """Check plain data and make the recipe of it; errors name places below ``where``."""
        from mergery.recipe.grammar import parse_recipe

        return parse_recipe(data, where=where)

    @property
    def parts(self) -> tuple[OutputSlice, ...]:
        """Every slice, those of all modules included."""
        return self.slices + tuple(part for module in self.modules for part in module.slices)

    @property
    def inputs(self) -> tuple[ModelRef | Recipe, ...]:
        """What is merged, each once: what is listed, in its order, then bases that are not listed."""
        named = [source.model for part in self.parts for source in part.sources]
        bases = [part.base_model for part in self.parts] + [self.base_model]
        return tuple(dict.fromkeys([*named, *(base for base in bases if base is not None)]))

    @property
    def models(self) -> tuple[ModelRef, ...]:
        """Every model whose weights are read, each once: the inputs, and those of nested recipes."""
        return tuple(dict.fromkeys(_leaves(self)))

    @property
    def tokenizer_source(self) -> str | None:
        """Where the result's vocabulary comes from: ``union``, ``base``, a model, or nothing said."""
        return None if self.tokenizer is None else str(self.tokenizer.source)

    def base_of(self, part: OutputSlice) -> ModelRef | Recipe | None:
        """The base that counts in one slice."""
        return self.base_model if part.base_model is None else part.base_model

    def to_dict(self) -> dict[str, object]:
        """Plain data in mergekit's grammar."""
        from mergery.recipe.plain import recipe_data

        return recipe_data(self)

    def to_yaml(self) -> str:
        """The recipe as text that :meth:`from_yaml` (and, our additions aside, mergekit) reads."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, width=110)

    @cached_property
    def digest(self) -> str:
        """A hash of what the recipe says, however it is written: 64 hexadecimal digits."""
        from mergery.recipe.plain import digest

        return digest(self)

    def __eq__(self, other: object) -> bool:
        """Whether two recipes say the same; the order of added tokens counts, and the notes do not."""
        return self.digest == other.digest if isinstance(other, Recipe) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.digest)


def _leaves(recipe: Recipe) -> Iterator[ModelRef]:
    for model in recipe.inputs:
        yield from model.models if isinstance(model, Recipe) else (model,)
