"""The models of a merge under one vocabulary, where the recipe says which."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from mergery.checkpoint import Checkpoint, ModelRef
from mergery.checkpoint.architecture import is_output_matrix, tied_partner
from mergery.checkpoint.hub import locate
from mergery.engine.alignment import Member
from mergery.engine.operand import Gathered, Operand
from mergery.errors import CheckpointError, RecipeError
from mergery.recipe import Recipe
from mergery.tokenizer import Vocabulary, build_vocabulary

__all__ = ["merged_vocabulary", "under_vocabulary"]

Members = Mapping[ModelRef | Recipe, Member]


def merged_vocabulary(
    recipe: Recipe, members: Members, models: Mapping[ModelRef, Checkpoint]
) -> Vocabulary | None:
    """What the recipe's ``tokenizer:`` makes of the models' vocabularies; ``None`` if it has none.

    Args:
        recipe: what to merge.
        members: the models under the leader's names.
        models: the opened checkpoints.

    Raises:
        RecipeError: if a nested recipe is among the models, or the settings name what is not there.
        CheckpointError: if a model has no single token embedding, or its tokenizer cannot be read.
    """
    if recipe.tokenizer is None:
        return None
    directories: dict[ModelRef, Path] = {}
    for model in members:
        if isinstance(model, Recipe):
            raise RecipeError(
                "tokenizer: a nested recipe is among the models, and has no tokenizer of its own yet",
                fix="merge it first, and give its directory here; or give the nested recipe the tokenizer:",
            )
        directories[model] = models[model].directory
    source = recipe.tokenizer.source
    if isinstance(source, ModelRef) and source not in directories:
        directories[source] = locate(source)
    base = recipe.base_model if isinstance(recipe.base_model, ModelRef) else None
    rows = {model: _embedding_rows(members[model]) for model in members if isinstance(model, ModelRef)}
    return build_vocabulary(recipe.tokenizer, directories, base, rows, trim=recipe.compat is not None)


def under_vocabulary(members: Members, vocabulary: Vocabulary) -> dict[ModelRef | Recipe, Member]:
    """The models with their embeddings and heads in the vocabulary's rows.

    Raises:
        CheckpointError: if the models' embeddings are of different widths.
    """
    columns = {member.tensors[_embedding(member)].shape[1:] for member in members.values()}
    if len(columns) > 1:
        widths = ", ".join(str(size[0]) for size in sorted(columns))
        raise CheckpointError(
            f"tokenizer: the models' embeddings have rows of {widths}", fix="merge models of one width"
        )
    return {model: _gathered(model, members, vocabulary) for model in members}


def _gathered(model: ModelRef | Recipe, members: Members, vocabulary: Vocabulary) -> Member:
    member = members[model]
    assert isinstance(model, ModelRef)
    if vocabulary.maps[model].identity:
        return member
    tensors = dict(member.tensors)
    count = _embedding_rows(member)
    for name, own in member.tensors.items():
        if (name == _embedding(member) or is_output_matrix(name)) and own.shape[:1] == (count,):
            parts = tuple(_part(members[other], name) for other in vocabulary.models if other in members)
            tensors[name] = Gathered(name, own, parts, vocabulary.maps[model])
    return replace(member, tensors=tensors)


def _part(member: Member, name: str) -> Operand:
    """Another model's tensor of the same name; a tied model's embedding stands for its head."""
    return member.tensors.get(name) or member.tensors[_embedding(member)]


def _embedding(member: Member) -> str:
    """The name of the token embedding."""
    name = tied_partner("lm_head.weight", [name for name in member.tensors if not is_output_matrix(name)])
    if name is None:
        raise CheckpointError(
            f"{member.label}: tokenizer: it has no single token embedding",
            fix="remove tokenizer: from the recipe",
        )
    return name


def _embedding_rows(member: Member) -> int:
    return member.tensors[_embedding(member)].shape[0]
