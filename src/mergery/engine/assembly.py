"""The result's tensors, in order, with the models and layers that each comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from mergery.checkpoint import layer_name
from mergery.checkpoint.architecture import language_stacks, module_of, stands_before_layers
from mergery.engine.alignment import Member
from mergery.engine.job import Job
from mergery.engine.lineup import Lineup, Planning, copy_job
from mergery.engine.modules import assigned
from mergery.errors import CheckpointError, RecipeError
from mergery.recipe import OutputSlice, Setting

__all__ = ["Restacked", "assemble"]


@dataclass(frozen=True)
class Restacked:
    """A stack of layers that was put together from slices.

    Attributes:
        stack: its name (``model.layers.``).
        origin: for each layer of the result, the first model that it comes from and its layer there.
    """

    stack: str
    origin: tuple[tuple[Member, int], ...]


@dataclass(frozen=True)
class _Section:
    """The whole model, or one of its modules.

    Attributes:
        module: its name; ``None`` for the whole.
        slices: its layers.
        parameters: what it says for all of them.
        holds: whether a tensor belongs to it.
    """

    module: str | None
    slices: tuple[OutputSlice, ...]
    parameters: Mapping[str, Setting] = field(default_factory=dict)
    holds: Callable[[str], bool] = lambda _: True


def assemble(planning: Planning) -> tuple[list[Job], list[Restacked]]:
    """Plan every tensor of the result.

    Returns:
        The jobs: of whole models in the leader's order; of slices embeddings, layers, and what stands
        behind them. And the stacks that were put together from slices.

    Raises:
        RecipeError: if a layer range or a module does not fit the models.
    """
    jobs: list[Job | None] = []
    restacked: list[Restacked] = []
    for section in _sections(planning, jobs):
        if len(section.slices) == 1 and section.slices[0].sources[0].layer_range is None:
            jobs += _whole(planning, section)
        else:
            stack = _Slices(planning, section)
            jobs += stack.jobs()
            restacked.append(stack.restacked())
    return [job for job in jobs if job is not None], restacked


def _sections(planning: Planning, jobs: list[Job | None]) -> Iterator[_Section]:
    """The recipe's modules, or all as one; ``jobs`` gets what no module claims and is copied."""
    recipe = planning.recipe
    if not recipe.modules:
        yield _Section(None, recipe.slices)
        return
    members = list(planning.members.values())
    names = _union(members, planning.leader)
    module_names = assigned([module.name for module in recipe.modules], names)
    for module in recipe.modules:

        def holds(name: str, wanted: str = module.name) -> bool:
            return module_names.get(name) == wanted

        yield _Section(module.name, module.slices, module.parameters, holds)
    for name in names:
        if name not in module_names:
            settled = planning.ledger.unclaimed(name, [member.tensors.get(name) for member in members])
            if settled:
                jobs.append(copy_job(planning, name, settled))


def _whole(planning: Planning, section: _Section) -> Iterator[Job | None]:
    """Models from end to end; gradients run over each stack of layers."""
    lineup = Lineup(planning, section.slices[0], section.parameters)
    depths: dict[str, int] = {}
    # the leader's too, where it is not among them: the result must have what its configuration speaks of
    for name in _union((*lineup.members, planning.leader), planning.leader):
        if section.holds(name):
            yield lineup.job(name, _position_in_stack(name, lineup.members, depths))


def _union(members: Iterable[Member], leader: Member) -> list[str]:
    """All tensors of all models: the leader's in their order, then what others have beside."""
    ordered = sorted(members, key=lambda member: member is not leader)
    return list(dict.fromkeys(name for member in ordered for name in member.tensors))


def _position_in_stack(name: str, members: Sequence[Member], depths: dict[str, int]) -> float:
    parsed = layer_name(name)
    if parsed is None:
        return 0.0
    if parsed.stack not in depths:
        depths[parsed.stack] = max(member.depth(parsed.stack) for member in members)
    return _position(parsed.index, depths[parsed.stack])


def _position(index: int, count: int) -> float:
    """Where a layer stands among others; mergekit: one by itself stands at the end."""
    return index / (count - 1) if count > 1 else 1.0


class _Slices:
    """One stack of layers put together from slices, with what stands around it."""

    def __init__(self, planning: Planning, section: _Section) -> None:
        self._planning, self._section = planning, section
        self._lineups = [Lineup(planning, part, section.parameters) for part in section.slices]
        self._stack = self._the_stack()
        self._ranges = [self._checked_ranges(lineup) for lineup in self._lineups]

    def jobs(self) -> Iterator[Job | None]:
        """Embeddings (and other modules) as in the first slice, the layers, the end as in the last."""
        first, last = self._lineups[0], self._lineups[-1]
        depths: dict[str, int] = {}
        for name in self._around(first.members):
            if not self._is_behind(name):
                yield first.job(name, _position_in_stack(name, first.members, depths))
        below = 0
        for lineup, ranges in zip(self._lineups, self._ranges, strict=True):
            yield from self._layers(lineup, ranges, below)
            below += len(ranges[0])
        for name in self._around((*last.members, self._planning.leader)):
            if self._is_behind(name):
                yield last.job(name, 0.0)

    def restacked(self) -> Restacked:
        """The layers' origin, for the configuration."""
        return Restacked(
            self._stack,
            tuple(
                (lineup.members[0], index)
                for lineup, ranges in zip(self._lineups, self._ranges, strict=True)
                for index in ranges[0]
            ),
        )

    def _layers(self, lineup: Lineup, ranges: Sequence[range], below: int) -> Iterator[Job | None]:
        for shift in range(len(ranges[0])):
            layers = [own[shift] for own in ranges]
            rests = dict.fromkeys(
                rest
                for member, layer in zip(lineup.members, layers, strict=True)
                for rest in member.stacks[self._stack][layer]
            )
            for rest in rests:
                wanted = [f"{self._stack}{layer}{rest}" for layer in layers]
                if any(map(self._section.holds, wanted)):
                    name = f"{self._stack}{below + shift}{rest}"
                    yield lineup.job(name, _position(shift, len(ranges[0])), wanted)

    def _around(self, members: Iterable[Member]) -> list[str]:
        """The section's tensors outside the stack."""
        return [
            name
            for name in _union(members, self._planning.leader)
            if self._section.holds(name)
            and ((parsed := layer_name(name)) is None or parsed.stack != self._stack)
        ]

    def _is_behind(self, name: str) -> bool:
        """Whether a tensor outside the stack is used after its last layer."""
        own = self._section.module is not None or module_of(name) == "text_decoder"
        return own and layer_name(name) is None and not stands_before_layers(name)

    def _the_stack(self) -> str:
        """The one stack that the layer ranges speak of."""
        member = self._lineups[0].members[0]
        found = [
            stack
            for stack, layers in member.stacks.items()
            if self._section.holds(f"{stack}{min(layers)}{layers[min(layers)][0]}")
        ]
        if self._section.module is None:
            found = language_stacks(found)
        if len(found) == 1:
            return found[0]
        where = f"modules.{self._section.module}: " if self._section.module else ""
        if not found:
            raise RecipeError(
                f"{where}layer_range, and {member.label} has no layers there",
                fix="merge such a model whole, with models:",
            )
        raise RecipeError(
            f"{where}layer_range, and {member.label} has several stacks of layers: {', '.join(found)}",
            fix="write modules:, one for each stack (encoder, decoder); or merge whole models, with models:",
        )

    def _checked_ranges(self, lineup: Lineup) -> list[range]:
        """The layers that each model gives."""
        return [
            _checked_range(member, self._stack, layer_range)
            for member, layer_range in zip(lineup.members, lineup.ranges, strict=True)
        ]


def _checked_range(member: Member, stack: str, layer_range: tuple[int, int] | None) -> range:
    count = member.depth(stack)
    start, end = layer_range or (0, count)
    if end > count:
        raise RecipeError(
            f"{member.label}: layer_range [{start}, {end}] and it has {count} layers",
            fix=f"end the range at {count} at most",
        )
    gap = next((index for index in range(start, end) if index not in member.stacks[stack]), None)
    if gap is not None:
        raise CheckpointError(
            f"{member.label}: it has no tensor of layer {stack}{gap}", fix="download it again"
        )
    return range(start, end)
