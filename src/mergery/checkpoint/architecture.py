"""What a tensor is, told by its name: its layer, its role, its module, its tied partner.

No table of architectures: the names in use since BERT say it themselves. The few exceptions are data, in
``exceptions.toml`` beside this file.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

__all__ = [
    "EXCEPTIONS",
    "MODULES",
    "ROLES",
    "LayerName",
    "Role",
    "is_derived",
    "is_output_matrix",
    "language_stacks",
    "layer_name",
    "module_of",
    "role",
    "stands_before_layers",
    "tied_partner",
]

Role: TypeAlias = Literal["embedding", "attention", "mlp", "norm", "head", "other"]
ROLES: tuple[Role, ...] = ("embedding", "attention", "mlp", "norm", "head", "other")

EXCEPTIONS: dict[str, Any] = tomllib.loads(
    Path(__file__).with_name("exceptions.toml").read_text(encoding="utf-8")
)
"""What names do not say by themselves: ``exceptions.toml``."""

_CACHED_NAMES = 1 << 18


def _any_of(patterns: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns))


# The number that counts layers is the first one. Not a layer: the members of a list of experts, and those
# of a plain sequence of matrices (mlp.0.weight, mlp.2.weight).
_LAYER = re.compile(r"^(.*?(?<!experts)\.)(\d+)(\.(?!(?:weight|bias)$).*)$")
_OUTSIDE_LAYERS = _any_of(EXCEPTIONS["outside_layers"]["patterns"])

# Looked for from the left, so that a norm inside attention (q_norm) is a norm.
_PATTERNS: tuple[tuple[Role, re.Pattern[str]], ...] = (
    ("norm", re.compile(r"norm|(^|\.)ln(_|\d|\.)", re.IGNORECASE)),
    (
        "head",
        re.compile(
            r"(^|\.)(\w*lm_head|embed_out|output_projection|proj_out|vocab_projector|cls|score|classifier"
            r"|qa_outputs)(\.|$)|^decoder\.(weight|bias)$"
        ),
    ),
    ("embedding", re.compile(r"embed|(^|\.)(wte|wpe|shared)\.")),
    ("attention", re.compile(r"attn|attention", re.IGNORECASE)),
    (
        "mlp",
        re.compile(
            r"mlp|ffn|feed_forward|dense_?relu|experts|intermediate|block_sparse_moe|(^|\.)fc\d"
            r"|\.layer\.\d+\.output\.dense",
            re.IGNORECASE,
        ),
    ),
)

_BEFORE = _any_of([r"embed|(^|\.)(wte|wpe|shared)\.", *EXCEPTIONS["order"]["before"]])
_AFTER = _any_of(EXCEPTIONS["order"]["after"])

_DERIVED = _any_of(EXCEPTIONS["derived"]["patterns"])
_MASKS = _any_of(EXCEPTIONS["derived"]["masks"])

MODULES: dict[str, re.Pattern[str]] = {
    module: re.compile(pattern) for module, pattern in EXCEPTIONS["modules"].items()
}
"""The modules beside the language model, with the pattern of their names; the first that fits counts."""

_AUXILIARY = _any_of(EXCEPTIONS["auxiliary_stacks"]["patterns"])

_OUTPUTS = re.compile(EXCEPTIONS["tied"]["outputs"])
_INPUTS = re.compile(EXCEPTIONS["tied"]["inputs"])
_TIED_BIAS = re.compile(EXCEPTIONS["tied"]["biases"])


@dataclass(frozen=True, slots=True)
class LayerName:
    """A tensor's name, taken apart at its layer's number.

    Attributes:
        stack: what stands before the number (``model.layers.``).
        index: the number.
        rest: what stands after it (``.self_attn.q_proj.weight``).
    """

    stack: str
    index: int
    rest: str

    def at(self, index: int) -> str:
        """The name of the same tensor in another layer."""
        return f"{self.stack}{index}{self.rest}"


@lru_cache(_CACHED_NAMES)
def layer_name(name: str) -> LayerName | None:
    """Take a tensor's name apart; ``None`` if it belongs to no layer."""
    match = _LAYER.match(name)
    if match is None or _OUTSIDE_LAYERS.search(name):
        return None
    return LayerName(match[1], int(match[2]), match[3])


def role(name: str) -> Role:
    """What the tensor does in the model."""
    return next((kind for kind, pattern in _PATTERNS if pattern.search(name)), "other")


def stands_before_layers(name: str) -> bool:
    """Whether a tensor outside the layers is used before them (embeddings), or after them."""
    return (_BEFORE.search(name) or _OUTSIDE_LAYERS.search(name)) is not None and not _AFTER.search(name)


def is_derived(name: str, shape: tuple[int, ...]) -> bool:
    """Whether a model computes this buffer by itself when it is loaded (rotary frequencies, masks)."""
    return _DERIVED.search(name) is not None or (len(shape) > 1 and _MASKS.search(name) is not None)


def module_of(name: str) -> str:
    """The module that a tensor or a stack belongs to: ``text_decoder``, ``vision_tower`` and the like."""
    return next((module for module, pattern in MODULES.items() if pattern.search(name)), "text_decoder")


def language_stacks(stacks: Iterable[str]) -> list[str]:
    """Those stacks of layers that are the language model: neither towers nor what stands beside it."""
    return [stack for stack in stacks if module_of(stack) == "text_decoder" and not _AUXILIARY.search(stack)]


def is_output_matrix(name: str) -> bool:
    """Whether this is the matrix before the logits, which a model may share with its token embedding."""
    return _OUTPUTS.search(name) is not None


def tied_partner(name: str, names: Iterable[str]) -> str | None:
    """The tensor that stands for ``name`` in a model that stores the two as one.

    Args:
        name: an output matrix, its bias, or a copy of the token embedding.
        names: the model's tensors; ``name`` is not among them.

    Returns:
        Its partner among ``names``, or ``None`` if there is none, or more than one could be meant.
    """
    bias = _TIED_BIAS.match(name)
    if bias:
        return next((other for other in names if other == f"{bias[1]}.bias"), None)
    if not (_OUTPUTS.search(name) or _INPUTS.search(name)):
        return None
    found = [other for other in names if _INPUTS.search(other) and module_of(other) == "text_decoder"]
    shared = [other for other in found if "shared" in other]
    found = shared or found
    return found[0] if len(found) == 1 else None
