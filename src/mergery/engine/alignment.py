"""The models of a merge under one set of names: those of the first of them, the leader.

Models of one architecture may be saved under names that begin otherwise (a bare model and one with a
head, a language model by itself and inside a vision-language model) and with experts laid out otherwise
(one matrix for each expert, or all in one tensor). Here their tensors get the leader's names; nothing is
read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from mergery.checkpoint import Checkpoint, ModelRef, layer_name
from mergery.engine.experts import as_laid_out, block_renamed
from mergery.engine.operand import Operand

__all__ = ["Member", "aligned"]


@dataclass(frozen=True)
class Member:
    """A model as a merge sees it.

    Attributes:
        label: what errors call it.
        config: its configuration.
        tensors: what it holds, under the leader's names, in checkpoint order.
        notes: what was matched otherwise than by equal names, for the user.
    """

    label: str
    config: Mapping[str, object]
    tensors: Mapping[str, Operand]
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, ref: ModelRef, checkpoint: Checkpoint) -> Member:
        """An opened checkpoint under its own names."""
        return cls(str(ref), checkpoint.config, checkpoint.tensors)

    @cached_property
    def stacks(self) -> Mapping[str, Mapping[int, tuple[str, ...]]]:
        """Its stacks of layers: for each layer what stands behind the number in its tensors' names."""
        found: dict[str, dict[int, list[str]]] = {}
        for name in self.tensors:
            parsed = layer_name(name)
            if parsed:
                found.setdefault(parsed.stack, {}).setdefault(parsed.index, []).append(parsed.rest)
        return {
            stack: {index: tuple(layers[index]) for index in sorted(layers)}
            for stack, layers in found.items()
        }

    def depth(self, stack: str) -> int:
        """Number of layers in one of its stacks; 0 if it has no such stack."""
        return 1 + max(self.stacks.get(stack, ()), default=-1)


def aligned(model: Member, leader: Member) -> Member:
    """The model under the leader's names and in the leader's layout, as far as they can be matched.

    A tensor that has no counterpart keeps its name.

    Raises:
        CheckpointError: if the experts of one tensor are of different types.
    """
    if model.tensors.keys() == leader.tensors.keys():
        return model
    tensors = block_renamed(model.tensors, leader.tensors)
    laid_out = as_laid_out(tensors, leader.tensors, model.label)
    model = _renamed(replace(model, tensors=tensors if laid_out is None else laid_out), leader)
    if laid_out is None:
        return model
    note = f"{model.label} and {leader.label} store experts differently: the result is laid out as the latter"
    return replace(model, notes=(*model.notes, note))


def _renamed(model: Member, leader: Member) -> Member:
    """The model with the beginnings of its names replaced."""
    rules = list(_prefix_rules(model, leader))
    names = {name: _by_rules(name, rules, leader) for name in model.tensors}
    left = dict.fromkeys(leader.tensors)
    for name in names.values():
        left.pop(name or "", None)
    endings = _by_ending(left)
    tensors: dict[str, Operand] = {}
    for name, operand in model.tensors.items():
        new = names[name] or _same_ending(name, operand, endings, leader) or _moved(name, rules)
        tensors[new] = operand
    if len(tensors) != len(model.tensors):  # two under one name: they cannot be told apart
        return model
    if not rules:
        return replace(model, tensors=tensors)
    shown = ", ".join(f"{own or '(nothing)'} for {other or '(nothing)'}" for own, other in rules)
    note = f"names of {model.label} begin otherwise than those of {leader.label}, and were matched: {shown}"
    return replace(model, tensors=tensors, notes=(*model.notes, note))


def _prefix_rules(model: Member, leader: Member) -> Iterator[tuple[str, str]]:
    """Beginnings of the model's names and what the leader has for them, the longest first.

    Read off the stacks of layers: two stacks are the same one if most of what their layers hold has the
    same names, and no other stack is as near.
    """
    free = [stack for stack in leader.stacks if stack not in model.stacks]
    rules: dict[str, str] = {}
    for stack in model.stacks:
        if stack in leader.stacks:
            continue
        inside = _shapes(model, stack)
        scores: list[tuple[tuple[int, int], str]] = []
        for other in free:
            shapes = _shapes(leader, other)
            common = [rest for rest in inside if rest in shapes]
            alike = sum(inside[rest] == shapes[rest] for rest in common)
            if 2 * len(common) >= len(inside):
                scores.append(((len(common), alike), other))
        best = [other for score, other in scores if score == max(scores)[0]]
        if len(best) == 1:
            own, others = _without_common_end(stack, best[0])
            rules.setdefault(own, others)
    yield from sorted(rules.items(), key=lambda rule: -len(rule[0]))


def _shapes(model: Member, stack: str) -> dict[str, tuple[int, ...]]:
    """What the layers of a stack hold, with its shape in the first layer that holds it."""
    shapes: dict[str, tuple[int, ...]] = {}
    for index, rests in model.stacks[stack].items():
        for rest in rests:
            shapes.setdefault(rest, model.tensors[f"{stack}{index}{rest}"].shape)
    return shapes


def _without_common_end(own: str, other: str) -> tuple[str, str]:
    """Two dotted beginnings without the words that both end in."""
    ours, theirs = own.split("."), other.split(".")
    while ours and theirs and ours[-1] == theirs[-1]:
        ours.pop()
        theirs.pop()
    return "".join(f"{word}." for word in ours), "".join(f"{word}." for word in theirs)


def _by_rules(name: str, rules: Iterable[tuple[str, str]], leader: Member) -> str | None:
    """The leader's name for it: the same one, or one that a rule gives; or one in its stack, but deeper."""
    for candidate in (name, *(other + name[len(own) :] for own, other in rules if name.startswith(own))):
        if candidate in leader.tensors:
            return candidate
        parsed = layer_name(candidate)
        if parsed and parsed.stack in leader.stacks:
            return candidate
    return None


def _by_ending(names: Iterable[str]) -> dict[str, list[str]]:
    endings: dict[str, list[str]] = {}
    for name in names:
        if layer_name(name) is None:
            endings.setdefault(_ending(name), []).append(name)
    return endings


def _same_ending(name: str, operand: Operand, endings: Mapping[str, list[str]], leader: Member) -> str | None:
    """The one tensor that the leader alone has and whose name is this one with more before it, or less."""
    if layer_name(name):
        return None
    found = [
        other
        for other in endings.get(_ending(name), ())
        if (f".{other}".endswith(f".{name}") or f".{name}".endswith(f".{other}"))
        and leader.tensors[other].shape == operand.shape
    ]
    return found[0] if len(found) == 1 else None


def _ending(name: str) -> str:
    return ".".join(name.split(".")[-2:])


def _moved(name: str, rules: list[tuple[str, str]]) -> str:
    """The name that a tensor without a counterpart would have in the leader."""
    for own, other in rules:
        if name.startswith(own) and (own or len(rules) == 1):
            return other + name[len(own) :]
    return name
