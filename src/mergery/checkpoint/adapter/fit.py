"""An adapter laid on a model: which tensor each of its parts changes, and how."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations

import numpy as np

from mergery.checkpoint.adapter.contents import Contents, Layer
from mergery.checkpoint.adapter.names import ModelNames
from mergery.checkpoint.adapter.settings import MERGE_FIRST, Settings
from mergery.checkpoint.adapter.update import Added, LowRank, Replaced, ReplacedRows, Step, read_float32
from mergery.checkpoint.architecture import layer_name, role
from mergery.checkpoint.checkpoint import Checkpoint
from mergery.checkpoint.safetensors import TensorInfo
from mergery.errors import CheckpointError

__all__ = ["Fit"]


@dataclass
class Fit:
    """The steps for each tensor of a model, gathered while the adapter's parts find their places.

    Attributes:
        settings: the adapter's.
        model: what it is laid on.
        steps: by the model's tensor names, each list in order.
        renamed: names of the adapter, with the model's, where they are not the same.
    """

    settings: Settings
    model: Checkpoint
    steps: dict[str, list[Step]] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._names = ModelNames(self.model.tensors)
        self._heads: list[tuple[TensorInfo, Step]] = []

    @classmethod
    def of(cls, contents: Contents, settings: Settings, model: Checkpoint) -> Fit:
        """Find a place for everything.

        Raises:
            CheckpointError: if something has none, or does not fit there.
        """
        fit = cls(settings, model)
        for name, value in contents.tensors:
            fit._replace(name, value)
        for module, layers in contents.modules.items():
            if parameters := fit._parameters(module):
                fit._adapt_parameters(parameters, layers)
            else:
                fit._adapt_weight(module, *layers)
        for module, values in contents.rows:
            fit._replace_rows(module, values)
        for source, step in fit._heads:
            fit._check_tied(source, step)
        return fit

    def _replace(self, name: str, value: TensorInfo) -> None:
        tensor = self._tensor(name, value)
        if tensor and tensor.shape != value.shape:
            raise _misfit(value, tensor)
        self._put(tensor, value, Replaced(value))

    def _adapt_weight(self, module: str, layer: Layer, *more: Layer) -> None:
        for nested in (layer, *more):
            if nested.depth:
                raise self._lost(nested.a, f"a parameter of {module}")
        tensor = self._tensor(f"{module}.weight", layer.a)
        scale = self.settings.scale(module, layer.a.shape[0])
        transposed = tensor is not None and self._is_transposed(layer, tensor)
        self._put(tensor, layer.a, LowRank(layer.a, layer.b, scale, transposed, layer.magnitude))
        if layer.bias:
            bias = self._tensor(f"{module}.bias", layer.bias)
            if bias and bias.shape != layer.bias.shape:
                raise _misfit(layer.bias, bias)
            self._put(bias, layer.bias, Added(layer.bias, scale))

    def _is_transposed(self, layer: Layer, tensor: TensorInfo) -> bool:
        ways = layer.ways(tensor.shape) if len(tensor.shape) == len(layer.a.shape) else ()
        if not ways:
            raise _misfit(layer.a, tensor, layer.b)
        return self._is_input_first(tensor) if len(ways) > 1 else ways[0]

    def _is_input_first(self, square: TensorInfo) -> bool:
        """Whether a square weight stores (in, out), as those of Conv1D layers do, which all have a bias.

        The layer's other weights tell, where a bias has the length of one side. The adapter's setting
        ``fan_in_fan_out`` comes last: it is that of the last module that peft adapted, not of all.
        """
        place = layer_name(square.name)
        if square.name.removesuffix("weight") + "bias" not in self.model.tensors:
            return False
        for name, bias in self.model.tensors.items():
            other, weight = layer_name(name), self.model.tensors.get(name.removesuffix("bias") + "weight")
            near = place and other and (other.stack, other.index) == (place.stack, place.index)
            if near and weight and len(weight.shape) == 2 and weight.shape[0] != weight.shape[1]:
                return bias.shape == weight.shape[1:]
        return self.settings.input_first

    def _parameters(self, module: str) -> dict[str, TensorInfo]:
        """The model's tensors that ``target_parameters`` names in a module."""
        names = (f"{module}.{end.rpartition('.')[2]}" for end in sorted(self.settings.parameters))
        return {
            name: self.model.tensors[found]
            for name in names
            if any(_ends(name, end) for end in self.settings.parameters) and (found := self._names.find(name))
        }

    def _adapt_parameters(self, parameters: Mapping[str, TensorInfo], layers: Sequence[Layer]) -> None:
        """Give each pair of matrices the parameter that it fits.

        The names of the pairs say which lies around which, but not whose they are.
        """
        choices = [
            dict(zip(chosen, layers, strict=True))
            for chosen in permutations(parameters, len(layers))
            if all(layer.ways(parameters[name].shape) for name, layer in zip(chosen, layers, strict=True))
        ]
        if not choices:
            raise _misfit(layers[0].a, next(iter(parameters.values())), layers[0].b)
        for name, transposed in _directions(choices, parameters).items():
            layer = choices[0][name]
            tensor = self._tensor(name, layer.a)
            if extra := layer.magnitude or layer.bias:
                raise _misfit(extra, parameters[name])
            experts = parameters[name].shape[0] if len(parameters[name].shape) == 3 else 1
            scale = self.settings.scale(name, layer.a.shape[0] // experts)
            self._put(tensor, layer.a, LowRank(layer.a, layer.b, scale, transposed, experts=experts))

    def _replace_rows(self, module: str, values: TensorInfo) -> None:
        rows = self.settings.rows(module)
        tensor = self._tensor(f"{module}.weight", values)
        fits = len(values.shape) == 2 and len(rows) == values.shape[0]
        if not fits or (tensor and (values.shape[1:] != tensor.shape[1:] or max(rows) >= tensor.shape[0])):
            raise CheckpointError(
                f"{values.file}: {values.name} {list(values.shape)} is not the {len(rows)} rows of "
                "trainable_token_indices"
                + (f", or not of {tensor.name} {list(tensor.shape)}" if tensor else ""),
                fix="save the adapter again; for new tokens, resize the model's embeddings first",
            )
        self._put(tensor, values, ReplacedRows(rows, values))

    def _put(self, tensor: TensorInfo | None, source: TensorInfo, step: Step) -> None:
        if tensor is None:
            self._heads.append((source, step))
            return
        steps = self.steps.setdefault(tensor.name, [])
        if any(type(step) is type(other) for other in steps):
            raise CheckpointError(
                f"{source.file}: {source.name} and {steps[-1].sources[0].name} both mean {tensor.name} "
                f"of {self.model.ref}",
                fix=MERGE_FIRST,
            )
        if not tensor.is_float:
            raise CheckpointError(
                f"{source.file}: {source.name} changes {tensor.name}, "
                f"which is {tensor.dtype} in {self.model.ref}",
                fix="put the adapter on the model in float16, bfloat16 or float32, not on a quantised one",
            )
        steps.append(step)

    def _tensor(self, name: str, source: TensorInfo) -> TensorInfo | None:
        """The model's tensor of that name; ``None`` for a head that is tied to the embeddings."""
        found = self._names.find(name)
        if found is None:
            if role(name) == "head" and not any(role(other) == "head" for other in self.model.tensors):
                return None
            raise self._lost(source, name)
        if found != name:
            self.renamed[name] = found
        return self.model.tensors[found]

    def _check_tied(self, source: TensorInfo, step: Step) -> None:
        """A tied head is there only if the adapter does to it what it does to the embeddings."""
        embeddings = (steps for name, steps in self.steps.items() if role(name) == "embedding")
        if not any(_same(step, other) for steps in embeddings for other in steps):
            raise CheckpointError(
                f"{source.file}: {source.name} changes a head, and {self.model.ref} has none of its own",
                fix="if its embeddings serve as its head, give it a lm_head.weight (a copy of them) and set "
                "tie_word_embeddings to false in its config.json; else " + self._home(),
            )

    def _lost(self, source: TensorInfo, name: str) -> CheckpointError:
        fix = self._home()
        if "expert" in name:
            fix += (
                "; if that is this one, its experts are stored in another way: load and save it with "
                f"transformers, save_pretrained(new, save_original_format={not self.settings.parameters})"
            )
        return CheckpointError(
            f"{source.file}: {source.name} is for {name}, and {self.model.ref} has no tensor that it fits",
            fix=fix,
        )

    def _home(self) -> str:
        base = f", {self.settings.base}" if self.settings.base else ""
        return f"put the adapter on the model that it was made for{base}"


def _directions(
    choices: Sequence[Mapping[str, Layer]], parameters: Mapping[str, TensorInfo]
) -> dict[str, bool]:
    """Whether each parameter of a module stores (in, out); square ones do as their sisters."""
    ways = {name: layer.ways(parameters[name].shape) for name, layer in choices[0].items()}
    sure = [way[0] for name, way in ways.items() if len(way) == 1 and len(parameters[name].shape) == 3]
    square = [name for name, way in ways.items() if len(way) > 1 and len(parameters[name].shape) == 3]
    if len(choices) > 1 or (square and len(dict.fromkeys(sure)) != 1):
        layer = next(iter(choices[0].values()))
        raise CheckpointError(
            f"{layer.a.file}: {layer.shapes} fit {' and '.join(parameters)} in more than one way",
            fix=MERGE_FIRST,
        )
    return {name: sure[0] if name in square else way[0] for name, way in ways.items()}


def _same(head: Step, embeddings: Step) -> bool:
    """Whether a step on a tied head, read as (out, in), is the one on the embeddings, read as (in, out)."""
    match head, embeddings:
        case Replaced(one), Replaced(other):
            return one.shape == other.shape and np.array_equal(read_float32(one), read_float32(other))
        case ReplacedRows(rows, one), ReplacedRows(others, other):
            return rows == others and np.array_equal(read_float32(one), read_float32(other))
        case LowRank(a, b, scale, _, None), LowRank(other_a, other_b, other_scale, True, None):
            return (
                scale == other_scale
                and a.shape == other_b.shape[::-1]
                and b.shape == other_a.shape[::-1]
                and np.array_equal(_matrix(a), _matrix(other_b).T)
                and np.array_equal(_matrix(b), _matrix(other_a).T)
            )
    return False


def _matrix(info: TensorInfo) -> np.typing.NDArray[np.float32]:
    return read_float32(info).reshape(info.shape)


def _misfit(source: TensorInfo, tensor: TensorInfo, *more: TensorInfo) -> CheckpointError:
    parts = " and ".join(f"{part.name} {list(part.shape)}" for part in (source, *more))
    resized = role(tensor.name) in ("embedding", "head")
    return CheckpointError(
        f"{source.file}: {parts} cannot be put on {tensor.name} {list(tensor.shape)} of {tensor.file}",
        fix="put the adapter on the model that it was made for"
        + ("; if its vocabulary was resized, resize the model's embeddings first" if resized else ""),
    )


def _ends(name: str, end: str) -> bool:
    """Whether a name is this one, or ends with it after a dot."""
    return f".{name}".endswith(f".{end}")
