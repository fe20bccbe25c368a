"""The models of one slice, and the jobs that come of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mergery.checkpoint import ModelRef, TensorInfo
from mergery.checkpoint.safetensors import dtype_name
from mergery.engine.accounting import Ledger, Settled
from mergery.engine.alignment import Member
from mergery.engine.job import Job
from mergery.engine.operand import Operand
from mergery.engine.values import Values, defaults
from mergery.methods import MergeMethod, get_method
from mergery.recipe import InputModel, OutputSlice, Recipe, Setting

__all__ = ["Lineup", "Planning", "copy_job"]

_NOWHERE = Path()


@dataclass(frozen=True)
class Planning:
    """What all parts of one plan share.

    Attributes:
        recipe: what was asked.
        method: its method.
        members: the models, by reference, under the leader's names.
        leader: the one whose names, layout and configuration the result has.
        ledger: the account of tensors.
    """

    recipe: Recipe
    method: MergeMethod
    members: Mapping[ModelRef | Recipe, Member]
    leader: Member
    ledger: Ledger

    @property
    def dtype(self) -> str | None:
        """The result's type, in the format's name, if the recipe says it."""
        named = self.recipe.out_dtype or self.recipe.dtype
        return dtype_name(named) if named else None


class Lineup:
    """The models of one slice: those listed, and the base behind them if it is not listed.

    Args:
        planning: what all slices share.
        part: the slice.
        parameters: what the module says, if there is one.

    Attributes:
        members: the models, in this order.
        ranges: their layer ranges; ``None`` for all layers. The base has the first model's if it is
            not listed.
    """

    def __init__(
        self, planning: Planning, part: OutputSlice, parameters: Mapping[str, Setting] | None = None
    ) -> None:
        self._planning, self._method = planning, planning.method
        base = planning.recipe.base_of(part)
        sources = list(part.sources)
        if base is not None and all(source.model != base for source in sources):
            sources.append(InputModel(base, layer_range=sources[0].layer_range))
        self.members = tuple(planning.members[source.model] for source in sources)
        self.ranges = tuple(source.layer_range for source in sources)
        # a model that is listed again, with other layers, is an expert like others
        self._base = next((i for i, source in enumerate(sources) if source.model == base), None)
        self._on_task_vectors = self._method.on_task_vectors(base is not None)
        order = list(range(len(sources)))
        if self._method.base == "first":
            order.sort(key=lambda index: index != self._base)
        self._order = [index for index in order if not (self._on_task_vectors and index == self._base)]
        shared = (part.parameters, parameters or {}, planning.recipe.parameters)
        self._values = Values(
            self._method, [source.parameters for source in sources], shared, planning.recipe.compat
        )

    def job(self, name: str, position: float, wanted: Sequence[str] | None = None) -> Job | None:
        """Plan one tensor of the result.

        Args:
            name: the result's name for it.
            position: where its layer stands in the slice, 0 to 1.
            wanted: what the models call it; ``name`` if not given.

        Returns:
            The job; ``None`` if the tensor is left out, or was put down as an error.

        Raises:
            RecipeError: if a parameter has no value for it.
        """
        wanted = [name] * len(self.members) if wanted is None else wanted
        operands: Sequence[Operand | None] = [
            member.tensors.get(own) for member, own in zip(self.members, wanted, strict=True)
        ]
        if None in operands:
            settled = self._planning.ledger.settle(name, self.members, operands)
            if settled is None:
                return None
            if settled.copied:
                return copy_job(self._planning, name, settled)
            operands = settled.operands
        template = self._template(operands)
        if any(operand is not None and operand.shape != template.shape for operand in operands):
            shapes = (
                (member.label, operand.shape)
                for member, operand in zip(self.members, operands, strict=True)
                if operand is not None
            )
            self._planning.ledger.misfit(name, shapes)
            return None
        models = [index for index in self._order if operands[index] is not None]
        if None in operands and not self._enough(name, models, operands):
            return None
        return Job(
            output=_output(self._planning, name, template),
            inputs=tuple(operand for index in models if (operand := operands[index]) is not None),
            base=operands[self._base] if self._on_task_vectors and self._base is not None else None,
            values=self._values.of(name, models, [wanted[index] for index in models], position)
            if template.is_float
            else {},
            method=self._method,
        )

    def _template(self, operands: Sequence[Operand | None]) -> Operand:
        """Whose shape and type the result has: the base, else the first that there is."""
        base = None if self._base is None else operands[self._base]
        return base or next(operand for operand in operands if operand is not None)

    def _enough(self, name: str, models: Sequence[int], operands: Sequence[Operand | None]) -> bool:
        """Whether the method can merge a tensor that only some models have (``unmatched:`` … ``merge``)."""
        low, _ = self._method.models
        if self._on_task_vectors and (self._base is None or operands[self._base] is None):
            problem = "the base has no such tensor"
        elif len(models) < low:
            problem = f"{self._method.name} takes at least {low} models, and {len(models)} have such a tensor"
        else:
            return True
        self._planning.ledger.refuse(f"{name}: unmatched: merge, and {problem}")
        return False


def copy_job(planning: Planning, name: str, settled: Settled) -> Job:
    """Plan a tensor that is taken from the first model that has it."""
    operand = next(operand for operand in settled.operands if operand is not None)
    method = get_method("passthrough")
    return Job(
        output=_output(planning, name, operand),
        inputs=(operand,),
        base=None,
        values=defaults(method, 1) if operand.is_float else {},
        method=method,
    )


def _output(planning: Planning, name: str, template: Operand) -> TensorInfo:
    dtype = planning.dtype if template.is_float and planning.dtype else template.dtype
    return TensorInfo(name, dtype, template.shape, _NOWHERE, 0)
