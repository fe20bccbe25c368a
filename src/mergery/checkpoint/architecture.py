"""What a tensor is, told by its name: its layer and its role.

No table of architectures: the names in use since BERT say it themselves.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["LAYER_COUNT_KEYS", "ROLES", "LayerName", "Role", "layer_name", "role"]

Role: TypeAlias = Literal["embedding", "attention", "mlp", "norm", "head", "other"]
ROLES: tuple[Role, ...] = ("embedding", "attention", "mlp", "norm", "head", "other")

LAYER_COUNT_KEYS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers")
"""Where configurations keep the number of layers."""

_LAYER = re.compile(r"^(.*?\.)(\d+)(\..*)$")

# Looked for from the left, so that a norm inside attention (q_norm) is a norm.
_PATTERNS: tuple[tuple[Role, re.Pattern[str]], ...] = (
    ("norm", re.compile(r"norm|(^|\.)ln(_|\d|\.)|layer_?norm", re.IGNORECASE)),
    ("head", re.compile(r"(^|\.)(lm_head|embed_out|output_projection|cls|score)\.")),
    ("embedding", re.compile(r"embed|(^|\.)(wte|wpe|shared)\.")),
    ("attention", re.compile(r"attn|attention", re.IGNORECASE)),
    (
        "mlp",
        re.compile(r"mlp|ffn|feed_forward|dense_?relu|experts|intermediate|block_sparse_moe", re.IGNORECASE),
    ),
)


@dataclass(frozen=True)
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


def layer_name(name: str) -> LayerName | None:
    """Take a tensor's name apart; ``None`` if it belongs to no layer."""
    match = _LAYER.match(name)
    return LayerName(match[1], int(match[2]), match[3]) if match else None


def role(name: str) -> Role:
    """What the tensor does in the model."""
    return next((kind for kind, pattern in _PATTERNS if pattern.search(name)), "other")
