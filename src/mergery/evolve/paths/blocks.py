"""Where a transformer block's output can be scaled: output projections, or the norms behind them.

No code knows an architecture: ``blocks.toml`` beside this file does, by ``model_type``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from mergery.engine.configuration import text_config
from mergery.errors import RecipeError

__all__ = ["BlockOutputs", "block_outputs"]


@dataclass(frozen=True)
class BlockOutputs:
    """Where a block writes into the residual stream.

    Attributes:
        modules: inside a block, in memory; the output of each is added to the stream.
        tensors: parts of the names of the tensors that a factor on these outputs goes into.
        centred: whether these tensors are norms' weights stored less one: w stands for 1 + w.
    """

    modules: tuple[str, ...]
    tensors: tuple[str, ...]
    centred: bool = False


def block_outputs(config: Mapping[str, object], *, where: str) -> BlockOutputs:
    """Where the blocks of a model with this configuration take a gain.

    Args:
        config: its ``config.json``.
        where: what errors call the model.

    Raises:
        RecipeError: if gains cannot be folded into such a model, or it is not known whether they can.
    """
    text = text_config(config)
    kind = text.get("model_type")
    for entry in _data()["refused"]:
        if kind in entry["model_types"]:
            raise _refused(where, f"{kind}: {entry['reason']}")
    entry = next((entry for entry in _data()["blocks"] if kind in entry["model_types"]), None)
    if entry is None:
        raise _refused(where, f"it is not known where the blocks of {kind} write into the residual stream")
    for setting in entry.get("unless", ()):
        if text.get(setting):
            raise _refused(where, f"{setting} is {text[setting]}, with which blocks of {kind} are others")
    outputs = tuple(entry["outputs"])
    return BlockOutputs(outputs, tuple(entry.get("tensors", outputs)), entry.get("centred", False))


def _refused(where: str, reason: str) -> RecipeError:
    return RecipeError(
        f"{where}: gains cannot be written into its weights: {reason}", fix="use paths whose gains are all 1"
    )


@lru_cache(1)
def _data() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("blocks.toml").read_text(encoding="utf-8"))
