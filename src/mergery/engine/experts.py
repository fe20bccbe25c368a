"""Mixtures of experts in their two layouts: a matrix for each expert, or all experts in one tensor.

Fused, as transformers 5 keeps them in memory (E experts, I inner, H outer units)::

    experts.gate_up_proj  (E, 2 I, H)   for each expert its gate's rows, then its up matrix's
    experts.down_proj     (E, H, I)

and one by one, as checkpoints mostly hold them: ``experts.0.gate_proj.weight (I, H)`` and so on, or
``w1``, ``w3``, ``w2``. Either is the other's bytes in another order of tensors.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from mergery.checkpoint import TensorInfo
from mergery.checkpoint.architecture import EXCEPTIONS
from mergery.engine.operand import Concatenated, Operand, window
from mergery.errors import CheckpointError

__all__ = ["as_laid_out", "block_renamed"]

_BLOCKS: list[str] = EXCEPTIONS["experts"]["blocks"]
_SPELLINGS: list[tuple[str, ...]] = [tuple(names) for names in EXCEPTIONS["experts"]["each"]]
_FUSED = ("gate_up_proj", "down_proj")

_EACH_NAME = re.compile(
    rf"^(.*\.experts)\.(\d+)\.({'|'.join(name for names in _SPELLINGS for name in names)})\.weight$"
)
_FUSED_NAME = re.compile(rf"^(.*\.experts)\.({'|'.join(_FUSED)})$")
_BLOCK = re.compile(rf"\.({'|'.join(_BLOCKS)})\.experts\.")


def block_renamed(tensors: Mapping[str, Operand], leader: Iterable[str]) -> Mapping[str, Operand]:
    """The tensors with the block around the experts called as the leader calls it."""
    own, wanted = _block(tensors), _block(leader)
    if own is None or wanted is None or own == wanted:
        return tensors
    return {name.replace(f".{own}.", f".{wanted}."): operand for name, operand in tensors.items()}


def as_laid_out(
    tensors: Mapping[str, Operand], leader: Iterable[str], label: str
) -> Mapping[str, Operand] | None:
    """The tensors with their experts laid out as the leader's; ``None`` if they are already, or have none.

    Experts that are not all there, or of unequal shapes, stay as they are.

    Args:
        tensors: a model's, by name.
        leader: the names of the leader's tensors.
        label: the model's name, for errors.

    Raises:
        CheckpointError: if the matrices to be fused are of different types.
    """
    own, wanted = _layout(tensors), _layout(leader)
    if own is None or wanted is None or own == wanted:
        return None
    found: dict[str, Operand] = {}
    done: dict[str, None] = {}  # the groups of experts already laid out
    groups = _groups(tensors)
    for name, operand in tensors.items():
        match = _EACH_NAME.match(name) or _FUSED_NAME.match(name)
        group = groups.get(match[1]) if match else None
        if match is None or group is None:
            found[name] = operand
        elif match[1] not in done:
            done[match[1]] = None
            found |= group.fused(label) if wanted == _FUSED else group.each(wanted)
    return found


def _block(names: Iterable[str]) -> str | None:
    return next((match[1] for name in names if (match := _BLOCK.search(name))), None)


def _layout(names: Iterable[str]) -> tuple[str, ...] | None:
    """The matrices' names, one by one or fused."""
    for name in names:
        if match := _EACH_NAME.match(name):
            return next(spelling for spelling in _SPELLINGS if match[3] in spelling)
        if _FUSED_NAME.match(name):
            return _FUSED
    return None


@dataclass(frozen=True)
class _Experts:
    """The experts of one layer.

    Attributes:
        head: their names' beginning, up to ``experts``.
        gates, ups: ``(I, H)`` for each expert.
        downs: ``(H, I)`` for each expert.
    """

    head: str
    gates: tuple[TensorInfo, ...]
    ups: tuple[TensorInfo, ...]
    downs: tuple[TensorInfo, ...]

    def each(self, spelling: tuple[str, ...]) -> dict[str, Operand]:
        """One matrix for each expert."""
        matrices = zip(spelling, (self.gates, self.ups, self.downs), strict=True)
        named = {
            f"{self.head}.{expert}.{matrix}.weight": info
            for matrix, infos in matrices
            for expert, info in enumerate(infos)
        }
        return {name: replace(info, name=name) for name, info in named.items()}

    def fused(self, label: str) -> dict[str, Operand]:
        """All experts in two tensors."""
        inner, outer = self.gates[0].shape
        count = len(self.gates)
        parts = tuple(part for pair in zip(self.gates, self.ups, strict=True) for part in pair)
        for part in (*parts, *self.downs):
            if part.dtype != parts[0].dtype:
                raise CheckpointError(
                    f"{label}: {part.name} is {part.dtype} and {parts[0].name} is {parts[0].dtype}, and "
                    "they are to be parts of one tensor",
                    fix="save the model in one type",
                )
        first, second = (f"{self.head}.{matrix}" for matrix in _FUSED)
        return {
            first: Concatenated(first, (count, 2 * inner, outer), parts),
            second: Concatenated(second, (count, outer, inner), self.downs),
        }


def _groups(tensors: Mapping[str, Operand]) -> dict[str, _Experts]:
    """The experts of every layer in which they are whole."""
    singles: dict[str, dict[tuple[int, int], TensorInfo]] = {}
    fused: dict[str, dict[str, TensorInfo]] = {}
    for name, operand in tensors.items():
        if not isinstance(operand, TensorInfo):
            continue
        if match := _EACH_NAME.match(name):
            kind = next(spelling.index(match[3]) for spelling in _SPELLINGS if match[3] in spelling)
            singles.setdefault(match[1], {})[int(match[2]), kind] = operand
        elif match := _FUSED_NAME.match(name):
            fused.setdefault(match[1], {})[match[2]] = operand
    found = {head: _from_singles(head, infos) for head, infos in singles.items()}
    found |= {head: _from_fused(head, infos) for head, infos in fused.items()}
    return {head: group for head, group in found.items() if group}


def _from_singles(head: str, infos: Mapping[tuple[int, int], TensorInfo]) -> _Experts | None:
    count = 1 + max(expert for expert, _ in infos)
    if len(infos) != 3 * count:
        return None
    gates, ups, downs = (tuple(infos[expert, kind] for expert in range(count)) for kind in range(3))
    shape = gates[0].shape
    if len(shape) != 2 or any(info.shape != shape for info in (*gates, *ups)):
        return None
    if any(info.shape != shape[::-1] for info in downs):
        return None
    return _Experts(head, gates, ups, downs)


def _from_fused(head: str, infos: Mapping[str, TensorInfo]) -> _Experts | None:
    if len(infos) != 2:
        return None
    both, downs = (infos[name] for name in _FUSED)
    if len(both.shape) != 3 or both.shape[1] % 2:
        return None
    count, inner, outer = both.shape[0], both.shape[1] // 2, both.shape[2]
    if downs.shape != (count, outer, inner):
        return None
    size = inner * outer

    def cut(whole: TensorInfo, first: int, step: int, shape: tuple[int, int]) -> tuple[TensorInfo, ...]:
        return tuple(window(whole, whole.name, first + step * expert, shape) for expert in range(count))

    return _Experts(
        head,
        cut(both, 0, 2 * size, (inner, outer)),
        cut(both, size, 2 * size, (inner, outer)),
        cut(downs, 0, size, (outer, inner)),
    )
