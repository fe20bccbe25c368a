"""A PEFT adapter, opened by its header and laid on a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mergery.checkpoint.adapter.contents import Contents
from mergery.checkpoint.adapter.fit import Fit
from mergery.checkpoint.adapter.settings import Settings
from mergery.checkpoint.adapter.update import Update
from mergery.checkpoint.checkpoint import Checkpoint
from mergery.checkpoint.hub import locate
from mergery.checkpoint.ref import ModelRef
from mergery.checkpoint.safetensors import TensorInfo, read_header
from mergery.errors import CheckpointError

__all__ = ["Adapter"]

_SETTINGS = "adapter_config.json"
_WEIGHTS = "adapter_model.safetensors"
_PICKLE = "adapter_model.bin"


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter's directory: its settings and its tensors' headers. No number is read.

    Attributes:
        ref: how the user named it.
        directory: where it lies.
        settings: what its ``adapter_config.json`` says.
        tensors: by name, in the order of their bytes.
        contents: the same, sorted by what they are for.
    """

    ref: ModelRef
    directory: Path
    settings: Settings
    tensors: Mapping[str, TensorInfo]
    contents: Contents

    @classmethod
    def open(cls, adapter: ModelRef | Path | str) -> Adapter:
        """Open an adapter by its reference or path.

        Args:
            adapter: its own reference, which is ``model.adapter`` for a ``model`` of a recipe.

        Raises:
            CheckpointError: if it does not exist, is not safetensors, is not whole, or is of a kind
                that cannot be applied tensor by tensor.
        """
        ref = adapter if isinstance(adapter, ModelRef) else ModelRef(str(adapter))
        directory = locate(ref)
        settings = Settings.read(directory / _SETTINGS)
        file = directory / _WEIGHTS
        if not file.exists():
            raise _no_weights(directory)
        tensors = {tensor.name: tensor for tensor in read_header(file)}
        if not tensors:
            raise CheckpointError(f"{file}: it holds no tensor", fix="save the adapter again")
        contents = Contents.sort(file, tensors.values(), dora=settings.dora)
        return cls(ref, directory, settings, tensors, contents)

    @property
    def file(self) -> Path:
        """The file with its weights."""
        return self.directory / _WEIGHTS

    @property
    def bytes(self) -> int:
        """Size of all its tensors."""
        return sum(tensor.bytes for tensor in self.tensors.values())

    def updates(self, model: Checkpoint) -> dict[str, Update]:
        """What the adapter does to each tensor of a model.

        Args:
            model: the model that it is put on.

        Returns:
            By the model's tensor names, in the model's order; tensors that stay as they are have none.

        Raises:
            CheckpointError: if a part of the adapter has no place in the model, or does not fit there.
        """
        steps = Fit.of(self.contents, self.settings, model).steps
        return {
            name: Update(tensor, tuple(steps[name]))
            for name, tensor in model.tensors.items()
            if name in steps
        }

    def check(self, model: Checkpoint) -> None:
        """Make sure that every part of the adapter has its place in a model.

        Raises:
            CheckpointError: as :meth:`updates` does.
        """
        self.updates(model)

    def notes(self, model: Checkpoint) -> tuple[str, ...]:
        """What is worth knowing about the adapter on this model, one line each.

        Raises:
            CheckpointError: as :meth:`updates` does.
        """
        return (
            *_other_base(self, model),
            *_replaced(self),
            *_renamed(self, Fit.of(self.contents, self.settings, model).renamed),
            *(
                f"{self.ref}: {key} of {_SETTINGS} is not known, and not used"
                for key in self.settings.unknown
            ),
        )


def _other_base(adapter: Adapter, model: Checkpoint) -> list[str]:
    """The base that the adapter names, unless it is the model by path, id or content of the hub's cache."""
    base, revision = adapter.settings.base, adapter.settings.revision
    if base is None:
        return [f"{adapter.ref}: it does not say which model it was made for"]
    path = Path(base).expanduser()
    cached = f"models--{base.replace('/', '--')}" in model.directory.parts
    same = base == model.ref.path or cached or (path.is_dir() and path.samefile(model.directory))
    if not same:
        return [f"{adapter.ref}: made for {base}, put on {model.ref.path}"]
    if revision and revision != model.ref.revision:
        return [
            f"{adapter.ref}: made for {base}@{revision}, put on {model.ref.revision or 'its present one'}"
        ]
    return []


def _replaced(adapter: Adapter) -> list[str]:
    """A word about tensors that are no small change."""
    names = [name for name, _ in adapter.contents.tensors]
    return (
        [f"{adapter.ref}: replaces {len(names)} tensors as a whole, {names[0]} among them"] if names else []
    )


def _renamed(adapter: Adapter, renamed: Mapping[str, str]) -> list[str]:
    """An example of each change of prefix."""
    examples: dict[tuple[tuple[str, ...], tuple[str, ...]], list[str]] = {}
    for name, found in renamed.items():
        words, others = name.split("."), found.split(".")
        while words and others and words[-1] == others[-1]:
            words.pop()
            others.pop()
        examples.setdefault((tuple(words), tuple(others)), []).append(f"{name} is taken for {found}")
    return [
        f"{adapter.ref}: {first}" + (f", and {len(more)} more in the same way" if more else "")
        for first, *more in examples.values()
    ]


def _no_weights(directory: Path) -> CheckpointError:
    if (directory / _PICKLE).exists():
        return CheckpointError(
            f"{directory}: its weights are a pickle ({_PICKLE}), which can run code when it is opened",
            fix="use a safetensors version of the adapter; if you trust its author, make one with peft: "
            "PeftModel.from_pretrained(base, old).save_pretrained(new)",
        )
    return CheckpointError(f"{directory}: it has no {_WEIGHTS}", fix="give the directory of a PEFT adapter")
