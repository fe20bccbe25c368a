"""Trained models taken to pieces: somewhere in path space lies the model that they were."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import TypeAlias

import torch
from safetensors.torch import load_file, save_file

LAYER = "model.layers.{}."
OUTPUTS = ("self_attn.o_proj.weight", "mlp.down_proj.weight")
FACTORS = (2.2, 0.7)
"""What layers are mis-scaled by: the way back, 0.45 and 1.43, lies in the range of gains."""
JUNK = 3.0
"""Layers of random weights put out this many times what trained ones of such weights would."""


@dataclass(frozen=True)
class Piece:
    """A layer in its place; ``None`` is one of random weights. ``factor`` multiplies what it puts out."""

    layer: int | None
    factor: float = 1.0


Pieces: TypeAlias = list[Piece]


def shuffled(depth: int, dice: Random) -> list[Pieces]:
    """Two layers of the donor have changed places, in the second model two others."""
    inner = dice.sample(range(1, depth - 1), 2)
    others = dice.sample([layer for layer in range(depth) if layer not in inner], 2)
    return [_swapped(_whole(depth), *pair) for pair in (inner, others)]


def dropped(depth: int, dice: Random) -> list[Pieces]:
    """One layer of the donor is lost, the one below it stands there twice; in the second model another."""
    lost = dice.sample(range(1, depth - 1), 2)
    return [[Piece(at - 1 if at == gone else at) for at in range(depth)] for gone in lost]


def mis_scaled(depth: int, dice: Random) -> list[Pieces]:
    """What every layer of the donor puts out is too much or too little; there is no second model."""
    return [_scaled(_whole(depth), dice)]


def everything(depth: int, dice: Random) -> list[Pieces]:
    """Layers shuffled and mis-scaled, and one of random weights between them."""
    at = dice.randrange(1, depth)
    return [_with_junk(_scaled(pieces, dice), at) for pieces in shuffled(depth, dice)]


DAMAGES: Mapping[str, Callable[[int, Random], list[Pieces]]] = {
    "shuffled": shuffled,
    "dropped": dropped,
    "mis-scaled": mis_scaled,
    "all but dropped": everything,
}


def _whole(depth: int) -> Pieces:
    return [Piece(layer) for layer in range(depth)]


def _swapped(pieces: Pieces, one: int, other: int) -> Pieces:
    changed = list(pieces)
    changed[one], changed[other] = pieces[other], pieces[one]
    return changed


def _scaled(pieces: Pieces, dice: Random) -> Pieces:
    return [replace(piece, factor=dice.choice(FACTORS)) for piece in pieces]


def _with_junk(pieces: Pieces, at: int) -> Pieces:
    return [*pieces[:at], Piece(None, JUNK), *pieces[at:]]


def assemble(source: Path, target: Path, pieces: Sequence[Piece]) -> Path:
    """Write the model of these pieces of another."""
    shutil.copytree(source, target)
    whole = load_file(source / "model.safetensors")
    weights = {name: value for name, value in whole.items() if not name.startswith("model.layers.")}
    rests = [name.removeprefix(LAYER.format(0)) for name in whole if name.startswith(LAYER.format(0))]
    for place, piece in enumerate(pieces):
        for rest in rests:
            value = whole[LAYER.format(piece.layer or 0) + rest]
            if piece.layer is None:
                value = _noise_like(value)
            weights[LAYER.format(place) + rest] = value * (piece.factor if rest in OUTPUTS else 1.0)
    save_file(weights, target / "model.safetensors", {"format": "pt"})
    config = json.loads((target / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(config | {"num_hidden_layers": len(pieces)}))
    return target


def _noise_like(value: torch.Tensor) -> torch.Tensor:
    """Random numbers as large as the trained ones; norms keep their weights."""
    if value.dim() < 2:
        return value
    noise = torch.randn(value.shape, generator=torch.Generator().manual_seed(0))
    return (value.float().std() * noise).to(value.dtype)
