"""What a recipe says about the result's vocabulary: frozen data, checked by its constructors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from mergery.checkpoint.ref import ModelRef
from mergery.errors import RecipeError

__all__ = ["ModelToken", "TokenSettings", "TokenSource", "TokenizerSettings", "VocabularySource", "Zero"]

VocabularySource: TypeAlias = Literal["union", "base"] | ModelRef


@dataclass(frozen=True)
class Zero:
    """A row of zeros: mergekit's ``{kind: zero}``."""


@dataclass(frozen=True)
class ModelToken:
    """The row of one token of one model: mergekit's ``{kind: model_token, model: …, token: …}``.

    Attributes:
        model: whose embeddings.
        token: which token, by its text as the vocabulary has it …
        token_id: … or by its row. Exactly one of the two is given.
    """

    model: ModelRef
    token: str | None = None
    token_id: int | None = None

    def __post_init__(self) -> None:
        if (self.token is None) == (self.token_id is None):
            raise RecipeError(
                f"model_token of {self.model}: token is {self.token!r}, token_id is {self.token_id!r}",
                fix="give either token or token_id",
            )
        if self.token_id is not None and self.token_id < 0:
            raise RecipeError(f"model_token of {self.model}: token_id {self.token_id}", fix="give 0 or more")


TokenSource: TypeAlias = ModelRef | Zero | ModelToken


@dataclass(frozen=True)
class TokenSettings:
    """Where one token's rows come from.

    Attributes:
        source: for the models that lack the token; ``None`` for the ordinary rules.
        force: for the models that have it, too.
    """

    source: TokenSource | None = None
    force: bool = False


@dataclass(frozen=True)
class TokenizerSettings:
    """The ``tokenizer:`` section of a recipe (or ``tokenizer_source: …``, which is its ``source`` alone).

    Attributes:
        source: the result's vocabulary: the base's, one model's, or the base's with every other model's
            tokens after it.
        tokens: by text; those that the vocabulary lacks are added to it.
        pad_to_multiple_of: the number of embedding rows is rounded up to a multiple of it.
    """

    source: VocabularySource = "union"
    tokens: Mapping[str, TokenSettings] = field(default_factory=dict)
    pad_to_multiple_of: int | None = None

    def __post_init__(self) -> None:
        if self.pad_to_multiple_of is not None and self.pad_to_multiple_of < 1:
            raise RecipeError(
                f"tokenizer.pad_to_multiple_of: {self.pad_to_multiple_of}",
                fix="give 1 or more, or leave it out",
            )
