"""Names in an adapter's file, and the tensors of a model that they mean."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from mergery.checkpoint.architecture import layer_name

__all__ = ["Kind", "ModelNames", "Part", "part"]

Kind: TypeAlias = Literal[
    "a", "b", "bias", "embedding_a", "embedding_b", "magnitude", "rows", "tensor", "copy"
]

_PREFIX = "base_model.model."
_KINDS: tuple[tuple[Kind, str], ...] = (
    ("a", r"lora_A\.weight"),
    ("b", r"lora_B\.weight"),
    ("bias", r"lora_B\.bias"),
    ("embedding_a", r"lora_embedding_A"),
    ("embedding_b", r"lora_embedding_B"),
    ("magnitude", r"lora_magnitude_vector(?:\.weight)?"),
    ("rows", r"token_adapter\.trainable_tokens_delta"),
)
_PARTS = tuple((kind, re.compile(rf"(.+?)((?:\.base_layer)*)\.{end}")) for kind, end in _KINDS)
_WRAPPERS = re.compile(r"\.(base_layer|token_adapter|original_module|modules_to_save)(?=\.)")
_COPIES = re.compile(r"\.(original_module|modules_to_save)\.")
_OWN = re.compile(r"(^|\.)(lora_|trainable_tokens_|token_adapter\.(?!base_layer\.))")
"""Pieces of names that only adapters have; what is left of a name with one is not understood."""


@dataclass(frozen=True)
class Part:
    """What a tensor of an adapter is.

    Attributes:
        kind: its part in an update. ``tensor`` replaces one of the model, ``copy`` is another that peft
            leaves beside such a one, before or after training.
        target: the module that is adapted; for ``tensor`` and ``copy``, the tensor's whole name.
        depth: how many other adapted parameters of the same module lie around this one.
    """

    kind: Kind
    target: str
    depth: int = 0


def part(name: str) -> Part | None:
    """Read a name of an adapter's file; ``None`` if it is of no kind known here."""
    bare = name.removeprefix(_PREFIX)
    for kind, pattern in _PARTS:
        if match := pattern.fullmatch(bare):
            return Part(kind, match[1].replace(".base_layer", ""), match[2].count(".base_layer"))
    if _OWN.search(bare):
        return None
    plain = _WRAPPERS.sub("", bare)
    return Part("copy" if _COPIES.search(bare) else "tensor", plain)


class ModelNames:
    """Finds the tensor of a model that an adapter's name means.

    Checkpoints name their tensors as the model class did that saved them, adapters as the one that they
    were trained with; between the two, prefixes come, go and change places (``model.``, ``transformer.``,
    ``language_model.``).
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = dict.fromkeys(names)
        self._alike: dict[tuple[int | None, str], list[str]] = {}
        for name in self._names:
            self._alike.setdefault(_tail(name), []).append(name)

    def find(self, name: str) -> str | None:
        """The tensor of that name.

        If there is none, the one that is alike from the layer's number on, or in the last two words where
        there is no layer, and whose prefix shares the longest end with the name, then the most words;
        ``None`` unless it is the only one.
        """
        if name in self._names:
            return name
        ranked = sorted((_likeness(name, other), other) for other in self._alike.get(_tail(name), ()))
        if not ranked or (len(ranked) > 1 and ranked[-1][0] == ranked[-2][0]):
            return None
        return ranked[-1][1]


def _tail(name: str) -> tuple[int | None, str]:
    layer = layer_name(name)
    return (layer.index, layer.rest) if layer else (None, ".".join(name.split(".")[-2:]))


def _likeness(name: str, other: str) -> tuple[int, int]:
    words, others = name.split("."), other.split(".")
    shared = 0
    while shared < min(len(words), len(others)) and words[-1 - shared] == others[-1 - shared]:
        shared += 1
    return shared, sum(word in others for word in dict.fromkeys(words))
