"""Groups of tensors, and the shortest filters that tell them apart.

A knob may have one value for each group of tensors. In a recipe that is mergekit's list of
``{filter, value}``, where a filter fits every tensor whose name holds it and the first that fits counts. So
each group needs substrings that its tensors' names hold and no other tensor's does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, Protocol, TypeAlias, get_args

__all__ = ["GROUPINGS", "Grouping", "Named", "coarser", "cover", "depth_of", "group_names"]

Grouping: TypeAlias = Literal["model", "role", "layer", "block"]
"""``model``: one value. ``role``: one each for embeddings, attention, MLPs, norms, head and the rest.
``layer``: one a layer, and one for each role outside the layers. ``block``: one a layer for attention and one
for the MLP, and one each for embeddings, norms, head and the rest."""

GROUPINGS: tuple[Grouping, ...] = get_args(Grouping)

_BEFORE, _AFTER = ("embedding",), ("norm", "head", "other")
_IN_LAYER = ("attention", "mlp")


class Named(Protocol):
    """What a group needs to know of a tensor (:class:`mergery.checkpoint.TensorInfo`)."""

    @property
    def name(self) -> str:
        """Full name."""
        ...

    @property
    def layer(self) -> int | None:
        """Index of its layer, or ``None`` outside the layers."""
        ...

    @property
    def role(self) -> str:
        """What it does: ``embedding``, ``attention``, ``mlp``, ``norm``, ``head`` or ``other``."""
        ...


def group_names(tensors: Iterable[Named], by: Grouping) -> dict[str, tuple[str, ...]]:
    """Tensor names by group, from the bottom of the model to its top.

    Args:
        tensors: all tensors of a model.
        by: how to group them; ``model`` is one group.

    Returns:
        Group name (``embedding``, ``layers.0``, ``layers.0.attention``, …) to tensor names. Every tensor
        is in exactly one group and no group is empty.
    """
    listed = sorted(tensors, key=lambda tensor: tensor.name)
    layers = sorted(dict.fromkeys(tensor.layer for tensor in listed if tensor.layer is not None))
    inside = {
        "model": [],
        "role": list(_IN_LAYER),
        "layer": [f"layers.{layer}" for layer in layers],
        "block": [f"layers.{layer}.{role}" for layer in layers for role in _IN_LAYER],
    }[by]
    order = ["model"] if by == "model" else [*_BEFORE, *inside, *_AFTER]
    members: dict[str, list[str]] = {name: [] for name in order}
    for tensor in listed:
        members[_group_of(tensor, by)].append(tensor.name)
    return {name: tuple(names) for name, names in members.items() if names}


def coarser(group: str, by: Grouping, level: int, layers: int) -> str:
    """The group that a group belongs to at a coarser level.

    Args:
        group: as :func:`group_names` calls it.
        by: how the tensors were grouped.
        level: 0 is everything together; 1 is roles, or thirds of the layers; 2 is the group itself.
        layers: of the model.
    """
    if level == 0 or by == "model":
        return "model"
    head, _, rest = group.partition(".")
    if level > 1 or head != "layers":
        return group
    layer, _, role = rest.partition(".")
    return role or f"third {3 * int(layer) // layers}"


def depth_of(group: str, layers: int) -> float:
    """Where in the model a group acts: 0 for what comes before the layers, 1 for what comes after them.

    Groups without one place (a role, the whole model) are taken to be in the middle.
    """
    head, _, rest = group.partition(".")
    if head == "layers":
        return (int(rest.partition(".")[0]) + 0.5) / layers
    return {"embedding": 0.0, "norm": 1.0, "head": 1.0}.get(group, 0.5)


def cover(groups: Mapping[str, Sequence[str]]) -> tuple[tuple[str, str], ...]:
    """Filters for groups of tensor names.

    Args:
        groups: tensor names by group; every name in one group only.

    Returns:
        ``(filter, group)`` in an order in which the first filter that a name holds is its group's. A group
        gets the fewest filters that a greedy choice finds; full names are the last resort.
    """
    everything = [name for names in groups.values() for name in names]
    exact: list[tuple[str, str]] = []
    last: list[tuple[str, str]] = []
    for group, names in groups.items():
        mine = dict.fromkeys(names)
        others = [name for name in everything if name not in mine]
        left = list(names)
        pieces = {
            piece: rank
            for rank, piece in enumerate(_pieces(names))
            if not any(piece in other for other in others)
        }
        while left:
            best = max(
                pieces, key=lambda piece: (sum(piece in name for name in left), -pieces[piece]), default=None
            )
            if best is None or not any(best in name for name in left):
                # only a full name that another group's tensor holds, too, is left: those go behind all
                # others, longest first, so that each is met by its own name
                last += [(name, group) for name in left]
                break
            exact.append((best, group))
            left = [name for name in left if best not in name]
    return (*exact, *sorted(last, key=lambda entry: (-len(entry[0]), entry[0])))


def _group_of(tensor: Named, by: Grouping) -> str:
    if by == "model":
        return "model"
    if tensor.layer is None and by != "role":
        # attention or an MLP outside the layers (a pooler, an adapter between towers)
        return tensor.role if tensor.role in (*_BEFORE, *_AFTER) else "other"
    if by == "layer":
        return f"layers.{tensor.layer}"
    if by == "block" and tensor.role in _IN_LAYER:
        return f"layers.{tensor.layer}.{tensor.role}"
    return tensor.role


def _pieces(names: Sequence[str]) -> dict[str, None]:
    """Substrings to try, the most readable first: dotted beginnings, single words, runs, parts of words."""
    beginnings: dict[str, None] = {}
    words: dict[str, None] = {}
    runs: dict[str, None] = {}
    parts: dict[str, None] = {}
    for name in names:
        segments = name.split(".")
        for end in range(1, len(segments)):
            beginnings.setdefault(".".join(segments[:end]) + ".")
        for start, word in enumerate(segments):
            words.setdefault(word)
            for end in range(start + 1, len(segments) + 1):
                run = ".".join(segments[start:end])
                runs.setdefault(run + ("." if end < len(segments) else ""))
                runs.setdefault(("." if start else "") + run + ("." if end < len(segments) else ""))
            for part in word.split("_"):
                if part:
                    parts.setdefault(f"{part}_" if f"{part}_" in word else part)
                    parts.setdefault(part)
        runs.setdefault(name)
    return beginnings | words | runs | parts
