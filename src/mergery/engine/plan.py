"""Every tensor of the result, known before the first weight is read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mergery.checkpoint import Checkpoint, ModelRef, TensorInfo, layer_name
from mergery.checkpoint.safetensors import dtype_name
from mergery.engine.configuration import layer_count, merged_config
from mergery.errors import CheckpointError, RecipeError
from mergery.methods import MergeMethod, Parameter, PerModel, Value, get_method
from mergery.recipe import InputModel, OutputSlice, Recipe
from mergery.recipe.settings import evaluate

__all__ = ["Job", "Plan", "make_plan", "open_models"]

# Bytes of anonymous memory for each element: of each model, and beside the models. Measured on the methods
# there are, with what the allocator keeps of freed memory; random masks are drawn in 64-bit integers.
_SCRATCH_PER_MODEL = {False: 16, True: 40}
_SCRATCH = 24


@dataclass(frozen=True)
class Job:
    """One tensor of the result.

    Attributes:
        output: its name, type and shape; ``file`` and ``start`` are those of its template.
        inputs: the tensors that are merged, in the stack's order.
        base: the tensor that task vectors start from.
        values: the method's parameters for this tensor, by recipe name.
    """

    output: TensorInfo
    inputs: tuple[TensorInfo, ...]
    base: TensorInfo | None
    values: Mapping[str, Value]

    @property
    def name(self) -> str:
        """The result's name for it."""
        return self.output.name

    @property
    def sources(self) -> tuple[TensorInfo, ...]:
        """Everything that is read for it."""
        return self.inputs if self.base is None else (self.base, *self.inputs)

    def memory(self, method: MergeMethod) -> int:
        """Bytes needed to compute it: a bound, by the method's kind."""
        per_element = _SCRATCH + _SCRATCH_PER_MODEL[method.random] * len(self.inputs)
        return per_element * self.output.elements


@dataclass(frozen=True)
class Plan:
    """A merge ready to run.

    Attributes:
        recipe: what was asked.
        method: its method.
        jobs: the result's tensors, in checkpoint order.
        models: the opened checkpoints, by reference.
        donor: the one that configuration and tokenizer come from.
        config: the result's configuration.
    """

    recipe: Recipe
    method: MergeMethod
    jobs: tuple[Job, ...]
    models: Mapping[ModelRef, Checkpoint]
    donor: Checkpoint
    config: Mapping[str, object]

    @cached_property
    def risks(self) -> tuple[str, ...]:
        """What the user should know before running it; reads configurations and tokenizers."""
        return tuple(_risks(self.donor, self.models.values()))

    @cached_property
    def bytes_read(self) -> int:
        """Bytes of all inputs; a tensor used twice counts once."""
        return sum(info.bytes for info in {source: None for job in self.jobs for source in job.sources})

    @cached_property
    def bytes_written(self) -> int:
        """Bytes of all tensors of the result."""
        return sum(job.output.bytes for job in self.jobs)

    def peak_memory(self, threads: int) -> int:
        """Bytes of anonymous memory that ``threads`` workers need at most."""
        return sum(sorted((job.memory(self.method) for job in self.jobs), reverse=True)[:threads])


def open_models(recipe: Recipe) -> dict[ModelRef, Checkpoint]:
    """Open the headers of every model that the recipe names."""
    return {ref: Checkpoint.open(ref) for ref in recipe.models}


def make_plan(recipe: Recipe, models: Mapping[ModelRef, Checkpoint] | None = None) -> Plan:
    """Work out every tensor of the result from headers alone.

    Args:
        recipe: what to merge.
        models: its models, if they are open already.

    Raises:
        CheckpointError: if a model cannot be opened, or tensors are missing or of different shapes.
        RecipeError: if a parameter has no value for some tensor.
    """
    models = open_models(recipe) if models is None else models
    method = get_method(recipe.merge_method)
    donor = models[recipe.base_of(recipe.slices[0]) or recipe.slices[0].sources[0].model]
    jobs = tuple(_jobs(recipe, method, models))
    firsts = [part.sources[0] for part in recipe.slices]
    origin = [(models[first.model], index) for first in firsts for index in range(*_range(first, models))]
    return Plan(
        recipe=recipe,
        method=method,
        jobs=jobs,
        models=models,
        donor=donor,
        config=merged_config(donor, origin, recipe.out_dtype or recipe.dtype),
    )


def _jobs(recipe: Recipe, method: MergeMethod, models: Mapping[ModelRef, Checkpoint]) -> Iterator[Job]:
    """The result's tensors: embeddings, layers of each slice, then what stands after them."""
    before, after = _outside_layers(recipe, models)
    lineup = _Lineup(recipe, recipe.slices[0], method, models)
    yield from (lineup.job(name, 0.0) for name in before)
    first = 0
    for part in recipe.slices:
        lineup = _Lineup(recipe, part, method, models)
        start, end = _range(part.sources[0], models)
        if len(recipe.slices) == 1 and part.sources[0].layer_range is None:
            lineup.check_same_names()
        for index in range(start, end):
            # mergekit: the position runs over the slice, and a slice of one layer stands at its end
            position = (index - start) / (end - start - 1) if end - start > 1 else 1.0
            for name in lineup.layer(index):
                yield lineup.job(name, position, shift=index - start, output_layer=first + index - start)
        first += end - start
    yield from (lineup.job(name, 0.0) for name in after)


def _outside_layers(recipe: Recipe, models: Mapping[ModelRef, Checkpoint]) -> tuple[list[str], list[str]]:
    """Names of the tensors before the first layer (embeddings) and after the last."""
    lower = models[recipe.slices[0].sources[0].model].tensors.values()
    upper = models[recipe.slices[-1].sources[0].model].tensors.values()
    return (
        [info.name for info in lower if info.layer is None and info.role == "embedding"],
        [info.name for info in upper if info.layer is None and info.role != "embedding"],
    )


def _range(source: InputModel, models: Mapping[ModelRef, Checkpoint]) -> tuple[int, int]:
    """The layers that a source gives."""
    checkpoint = models[source.model]
    count = layer_count(checkpoint)
    start, end = source.layer_range or (0, count)
    stacks = dict.fromkeys(parsed.stack for name in checkpoint.tensors if (parsed := layer_name(name)))
    if source.layer_range and len(stacks) > 1:
        raise RecipeError(
            f"{source.model}: layer_range, and it has several stacks of layers: {', '.join(stacks)}",
            fix="merge such a model whole, with models:",
        )
    if end > count:
        raise RecipeError(
            f"{source.model}: layer_range [{start}, {end}] and it has {count} layers",
            fix=f"end the range at {count} at most",
        )
    return start, end


class _Lineup:
    """The models of one slice, in the order of the method's stack."""

    def __init__(
        self, recipe: Recipe, part: OutputSlice, method: MergeMethod, models: Mapping[ModelRef, Checkpoint]
    ) -> None:
        self._recipe, self._part, self._method = recipe, part, method
        self._base = recipe.base_of(part)
        sources = list(part.sources)
        listed = [source.model for source in sources]
        if self._base and self._base not in listed:
            sources.append(InputModel(self._base, layer_range=sources[0].layer_range))
        if method.base == "first":
            sources.sort(key=lambda source: source.model != self._base)
        self._checkpoints = [models[source.model] for source in sources]
        self._starts = [_range(source, models)[0] for source in sources]
        self._sources = sources
        self._template = models[part.sources[0].model]
        self._layers: dict[int | None, list[str]] = {}
        for info in self._template.tensors.values():
            self._layers.setdefault(info.layer, []).append(info.name)

    def layer(self, index: int) -> list[str]:
        """Names of the template's tensors in one layer."""
        return self._layers.get(index, [])

    def check_same_names(self) -> None:
        """Whole models are merged: every tensor of every one must have its partners."""
        for checkpoint in self._checkpoints:
            for name in sorted(self._template.tensors.keys() ^ checkpoint.tensors.keys()):
                missing, there = checkpoint, self._template
                if name in missing.tensors:
                    missing, there = there, missing
                raise CheckpointError(
                    f"{missing.ref}: it has no tensor {name}, which {there.ref} has",
                    fix="merge models of one architecture, saved the same way (tied heads included)",
                )

    def job(self, name: str, position: float, *, shift: int = 0, output_layer: int | None = None) -> Job:
        """Plan one tensor, named as in the template (the slice's first source)."""
        infos = [
            self._partner(checkpoint, name, start + shift)
            for checkpoint, start in zip(self._checkpoints, self._starts, strict=True)
        ]
        parsed = layer_name(name)
        output_name = parsed.at(output_layer) if parsed and output_layer is not None else name
        for info, source in zip(infos, self._sources, strict=True):
            if info.shape != infos[0].shape:
                raise CheckpointError(
                    f"{name}: shape {list(infos[0].shape)} in {self._sources[0].model}, "
                    f"{list(info.shape)} in {source.model}",
                    fix="merge models of one architecture, size and vocabulary",
                )
        stack = [
            (source, info)
            for source, info in zip(self._sources, infos, strict=True)
            if not (self._method.on_task_vectors and source.model == self._base)
        ]
        base = next((i for s, i in zip(self._sources, infos, strict=True) if s.model == self._base), None)
        template = base or infos[0]
        dtype = self._recipe.out_dtype or self._recipe.dtype
        output = TensorInfo(
            output_name,
            dtype_name(dtype) if dtype and template.is_float else template.dtype,
            template.shape,
            template.file,
            template.start,
        )
        return Job(
            output=output,
            inputs=tuple(info for _, info in stack),
            base=base if self._method.on_task_vectors else None,
            values=self._values(stack, output_name, position) if template.is_float else {},
        )

    def _partner(self, checkpoint: Checkpoint, name: str, layer: int) -> TensorInfo:
        """The same tensor of another model, which may take it from another layer."""
        parsed = layer_name(name)
        wanted = parsed.at(layer) if parsed else name
        if wanted not in checkpoint.tensors:
            raise CheckpointError(
                f"{checkpoint.ref}: it has no tensor {wanted}",
                fix="merge models of one architecture, saved the same way (tied heads included)",
            )
        return checkpoint.tensors[wanted]

    def _values(
        self, stack: Sequence[tuple[InputModel, TensorInfo]], output_name: str, position: float
    ) -> dict[str, Value]:
        """The method's parameters for one tensor: filters of models see the models' own names."""
        return {
            parameter.name: PerModel(
                self._value(parameter, source, info.name, position) for source, info in stack
            )
            if parameter.per_model
            else self._value(parameter, None, output_name, position)
            for parameter in self._method.parameters.values()
        }

    def _value(
        self, parameter: Parameter, source: InputModel | None, name: str, position: float
    ) -> float | int | bool:
        levels = [self._part.parameters, self._recipe.parameters]
        if source is not None:
            levels.insert(0, source.parameters)
        for level in levels:
            if parameter.name in level:
                value = evaluate(level[parameter.name], name, position)
                if value is not None:
                    return parameter.check(value, name)
        if parameter.default is None:
            raise RecipeError(
                f"{name}: no value of {parameter.name} is meant for it",
                fix=f"add an entry of {parameter.name} without a filter",
            )
        return parameter.default


def _risks(donor: Checkpoint, models: Iterable[Checkpoint]) -> Iterator[str]:
    """Differences between the models that make merges fail in silence."""
    for model in models:
        for key in ("model_type", "rope_theta", "rope_scaling", "rope_parameters", "hidden_act"):
            if model.config.get(key) != donor.config.get(key):
                yield (
                    f"{key} is {model.config.get(key)} in {model.ref} and {donor.config.get(key)} in "
                    f"{donor.ref}: the result takes the latter"
                )
        if _vocabulary(model.directory) != _vocabulary(donor.directory):
            yield (
                f"the tokenizers of {model.ref} and {donor.ref} differ: their embeddings may mean other "
                "words; the result takes the latter"
            )


def _vocabulary(directory: Path) -> bytes | None:
    """The tokenizer's bytes, if it has the fast form."""
    file = directory / "tokenizer.json"
    return file.read_bytes() if file.exists() else None
