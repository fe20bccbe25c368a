"""Where the tensors of a merge come from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch

from mergery.checkpoint.safetensors import read_tensor
from mergery.engine.stock import usable_device
from mergery.errors import CheckpointError
from mergery.methods import RandomKey, TaskVectors, Weights

if TYPE_CHECKING:
    from torch import Tensor

    from mergery.checkpoint import TensorInfo
    from mergery.engine.plan import Job

__all__ = ["DiskSource", "MemorySource", "Source"]


class Source(Protocol):
    """Gives a job its tensors."""

    def stack(self, job: Job, seed: int) -> TaskVectors | Weights:
        """The job's models, flattened and stacked: ``(K, n)`` float32."""
        ...

    def base(self, job: Job) -> Tensor:
        """The job's base, flattened: ``(n,)`` float32."""
        ...

    def plain(self, info: TensorInfo) -> Tensor:
        """One tensor as it is stored, for those that are copied and not merged."""
        ...


class DiskSource:
    """Reads from the checkpoints each time; keeps nothing."""

    def __init__(self, device: str = "cpu") -> None:
        self._device = usable_device(device)

    def stack(self, job: Job, seed: int) -> TaskVectors | Weights:
        """See :class:`Source`."""
        key = RandomKey(seed, job.name)
        values = torch.empty(len(job.inputs), job.output.elements, device=self._device)
        for row, info in zip(values, job.inputs, strict=True):
            row.copy_(self._flat(info))
        if job.base is None:
            return Weights(values, job.output.shape, key)
        values -= self.base(job)
        return TaskVectors(values, job.output.shape, key)

    def base(self, job: Job) -> Tensor:
        """See :class:`Source`."""
        assert job.base is not None
        return self._flat(job.base).to(self._device, torch.float32)

    def plain(self, info: TensorInfo) -> Tensor:
        """See :class:`Source`."""
        return read_tensor(info)

    def _flat(self, info: TensorInfo) -> Tensor:
        tensor = read_tensor(info).flatten()
        if not bool(tensor.isfinite().all()):
            raise CheckpointError(
                f"{info.file}: {info.name} holds NaN or infinite values", fix="merge without this model"
            )
        return tensor


class MemorySource:
    """Keeps what it has read once: a search builds thousands of candidates from the same tensors."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._stacks: dict[tuple[int, str, tuple[TensorInfo, ...]], TaskVectors | Weights] = {}
        self._bases: dict[TensorInfo, Tensor] = {}

    def stack(self, job: Job, seed: int) -> TaskVectors | Weights:
        """See :class:`Source`."""
        place = (seed, job.name, job.sources)
        if place not in self._stacks:
            self._stacks[place] = self._source.stack(job, seed)
        return self._stacks[place]

    def base(self, job: Job) -> Tensor:
        """See :class:`Source`."""
        assert job.base is not None
        if job.base not in self._bases:
            self._bases[job.base] = self._source.base(job)
        return self._bases[job.base]

    def plain(self, info: TensorInfo) -> Tensor:
        """See :class:`Source`."""
        return self._source.plain(info)
