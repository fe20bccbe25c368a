"""What an adapter's file holds, sorted by what it is for; every tensor has its place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mergery.checkpoint.adapter.names import Kind, part
from mergery.checkpoint.adapter.settings import MERGE_FIRST
from mergery.checkpoint.safetensors import TensorInfo
from mergery.errors import CheckpointError

__all__ = ["Contents", "Layer"]


@dataclass(frozen=True)
class Layer:
    """The matrices that adapt one module, or one parameter of it.

    Attributes:
        module: its name where the adapter was trained.
        depth: how many other adapted parameters of the module lie around this one.
        a: ``(rank, in)``; in an embedding, in is the vocabulary.
        b: ``(out, rank)``.
        embedding: whether it adapts a table of embeddings.
        magnitude: DoRA's, one number for each output.
        bias: a bias of B, one number for each output.
    """

    module: str
    depth: int
    a: TensorInfo
    b: TensorInfo
    embedding: bool
    magnitude: TensorInfo | None
    bias: TensorInfo | None

    def ways(self, shape: tuple[int, ...]) -> tuple[bool, ...]:
        """How a tensor of this shape may hold what the layer adapts.

        Returns:
            ``False`` for (out, in), ``True`` for (in, out), both for a square; nothing if it cannot.
        """
        rank, *inputs = self.a.shape
        outputs = self.b.shape[0]
        if len(inputs) > 1:
            return (False,) if shape == (outputs, *inputs) else ()
        if self.embedding:
            return (True,) if shape == (*inputs, outputs) else ()
        experts, sides = (shape[0], shape[1:]) if len(shape) == 3 else (1, shape)
        if rank % experts:
            return ()
        kept, turned = sides == (outputs, *inputs), sides == (*inputs, outputs)
        return (False,) * kept + (True,) * turned

    @property
    def shapes(self) -> str:
        """Both shapes, for messages."""
        return f"{self.a.name} {list(self.a.shape)} and {self.b.name} {list(self.b.shape)}"


@dataclass(frozen=True)
class Contents:
    """An adapter's tensors.

    Attributes:
        tensors: those that replace one of the model, with the name that it had in training.
        modules: the low-rank ones, by module; several where several of its parameters are adapted.
        rows: rows of embeddings, with the name of their module.
    """

    tensors: tuple[tuple[str, TensorInfo], ...]
    modules: Mapping[str, tuple[Layer, ...]]
    rows: tuple[tuple[str, TensorInfo], ...]

    @classmethod
    def sort(cls, file: Path, found: Iterable[TensorInfo], *, dora: bool) -> Contents:
        """Give each tensor its place.

        Raises:
            CheckpointError: if a tensor is of no known kind, lacks its partner, or is of no use.
        """
        plain: dict[Kind, list[tuple[str, TensorInfo]]] = {"tensor": [], "rows": [], "copy": []}
        layers: dict[tuple[str, int], dict[Kind, TensorInfo]] = {}
        for info in found:
            place = part(info.name)
            if place is None:
                raise CheckpointError(
                    f"{file}: {info.name} is nothing that is known of LoRA adapters", fix=MERGE_FIRST
                )
            if not info.is_float or not info.elements:
                raise CheckpointError(
                    f"{file}: {info.name} has dtype {info.dtype} and shape {list(info.shape)}",
                    fix="save the adapter again, with its shards gathered and its weights as floats",
                )
            if place.kind in plain:
                plain[place.kind].append((place.target, info))
            elif layers.setdefault((place.target, place.depth), {}).setdefault(place.kind, info) is not info:
                raise _half(file, info, "a place of its own")
        brought = [target for target, _ in plain["tensor"]]
        alone = next((info for target, info in plain["copy"] if target not in brought), None)
        if alone:
            raise _half(file, alone, "the tensor that it is a copy of")
        modules: dict[str, tuple[Layer, ...]] = {}
        for (module, depth), parts in layers.items():
            modules[module] = (*modules.get(module, ()), _layer(file, module, depth, parts, dora))
        return cls(tuple(plain["tensor"]), modules, tuple(plain["rows"]))


def _layer(file: Path, module: str, depth: int, parts: Mapping[Kind, TensorInfo], dora: bool) -> Layer:
    first = next(iter(parts.values()))
    embedding = "embedding_a" in parts or "embedding_b" in parts
    a, b = (
        (parts.get("embedding_a"), parts.get("embedding_b"))
        if embedding
        else (parts.get("a"), parts.get("b"))
    )
    if a is None or b is None:
        raise _half(file, first, "the other matrix of its product")
    if embedding and ("a" in parts or "b" in parts):
        raise _half(file, parts.get("a") or parts["b"], "a module of its own: another adapter has it")
    magnitude = parts.get("magnitude")
    if dora and magnitude is None:
        raise _half(file, a, "the lora_magnitude_vector that use_dora promises")
    if magnitude and not dora:
        raise _half(file, magnitude, "a use_dora in adapter_config.json")
    layer = Layer(module, depth, a, b, embedding, magnitude, parts.get("bias"))
    if len(a.shape) < 2 or len(a.shape) != len(b.shape) or a.shape[0] != b.shape[1]:
        raise CheckpointError(
            f"{file}: {layer.shapes} cannot be multiplied",
            fix="save the adapter again with its shards gathered; grouped convolutions cannot be merged",
        )
    for vector in (layer.magnitude, layer.bias):
        if vector and vector.elements != b.shape[0]:
            raise CheckpointError(
                f"{file}: {vector.name} has {vector.elements} elements for {b.shape[0]} outputs",
                fix="save the adapter again",
            )
    return layer


def _half(file: Path, info: TensorInfo, missing: str) -> CheckpointError:
    return CheckpointError(f"{file}: {info.name} lacks {missing}", fix="save the adapter again, whole")
