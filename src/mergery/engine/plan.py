"""Every tensor of the result, known before the first weight is read."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from mergery.checkpoint import Checkpoint, ModelRef, TensorInfo, layer_name
from mergery.checkpoint.adapter import Adapter
from mergery.checkpoint.architecture import is_output_matrix
from mergery.engine.accounting import Ledger, ties_embeddings
from mergery.engine.alignment import Member, aligned
from mergery.engine.assembly import Restacked, assemble
from mergery.engine.configuration import merged_config
from mergery.engine.job import Job
from mergery.engine.lineup import Planning
from mergery.engine.operand import Adapted, Computed, stored_tensors
from mergery.engine.rehearsal import rehearse
from mergery.engine.risks import head_counts, model_risks, restacking_risks
from mergery.engine.vocabularies import merged_vocabulary, under_vocabulary
from mergery.errors import CheckpointError
from mergery.methods import MergeMethod, get_method
from mergery.recipe import Recipe
from mergery.stack import Place
from mergery.tokenizer import Vocabulary, config_changes

__all__ = ["Job", "Plan", "make_plan", "open_models"]


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
        notes: how tensors without exact partners were accounted for, in words for the user.
        vocabulary: what the recipe's ``tokenizer:`` makes of the models' vocabularies, if it has one.
    """

    recipe: Recipe
    method: MergeMethod
    jobs: tuple[Job, ...]
    models: Mapping[ModelRef, Checkpoint]
    donor: Checkpoint
    config: Mapping[str, object]
    notes: tuple[str, ...] = ()
    vocabulary: Vocabulary | None = None

    @cached_property
    def risks(self) -> tuple[str, ...]:
        """What the user should know before running it; reads configurations and tokenizers."""
        own_vocabulary = self.recipe.tokenizer is not None
        found = model_risks(self.donor, self.models.values(), own_vocabulary=own_vocabulary)
        return (*self.notes, *found)

    @cached_property
    def bytes_read(self) -> int:
        """Bytes of all inputs; a tensor used twice counts once."""
        places: dict[Path, dict[int, int]] = {}
        for info in self._stored():
            places.setdefault(info.file, {})[info.start] = info.bytes
        return sum(size for file in places.values() for size in file.values())

    @cached_property
    def bytes_written(self) -> int:
        """Bytes of all tensors of the result."""
        return sum(job.output.bytes for job in self.jobs)

    @cached_property
    def depths(self) -> Mapping[str, int]:
        """Number of layers of each stack of layers of the result."""
        depths: dict[str, int] = {}
        for job in self.jobs:
            parsed = layer_name(job.name)
            if parsed:
                depths[parsed.stack] = max(depths.get(parsed.stack, 0), parsed.index + 1)
        return depths

    @cached_property
    def types(self) -> tuple[str, ...]:
        """The types of the result's tensors, by the format's names, the most frequent first."""
        counts = Counter(job.output.dtype for job in self.jobs)
        return tuple(dtype for dtype, _ in counts.most_common())

    def place(self, job: Job) -> Place:
        """Where a tensor stands in the result."""
        parsed = layer_name(job.name)
        depth = self.depths[parsed.stack] if parsed else 0
        return Place(job.name, parsed.index if parsed else None, depth, job.output.role)

    def peak_memory(self, threads: int) -> int:
        """Bytes of anonymous memory that ``threads`` workers need at most."""
        return sum(sorted((job.memory for job in self.jobs), reverse=True)[:threads])

    def _stored(self) -> Iterator[TensorInfo]:
        for job in self.jobs:
            for source in job.sources:
                yield from stored_tensors(source)


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Nothing made here is garbage, and looking for it takes as long as the planning itself."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@_collector_paused()
def open_models(recipe: Recipe) -> dict[ModelRef, Checkpoint]:
    """Open the headers of every model that the recipe names."""
    return {ref: Checkpoint.open(ref) for ref in recipe.models}


@_collector_paused()
def make_plan(recipe: Recipe, models: Mapping[ModelRef, Checkpoint] | None = None) -> Plan:
    """Work out every tensor of the result from headers alone.

    Args:
        recipe: what to merge.
        models: its models, if they are open already.

    Raises:
        CheckpointError: if a model cannot be opened, or tensors are missing or of different shapes; it
            names them all, up to ten.
        RecipeError: if a parameter has no value for some tensor, its values together make no sense, or
            layers or modules are not there.
    """
    models = open_models(recipe) if models is None else models
    for checkpoint in models.values():
        _refuse_quantised(checkpoint)
    first = recipe.parts[0]
    base = recipe.base_of(first)
    leading = first.sources[0].model if base is None else base
    nested = {inner: make_plan(inner, models) for inner in recipe.inputs if isinstance(inner, Recipe)}
    leader = _member(leading, models, nested)
    members = {
        model: leader if model == leading else aligned(_member(model, models, nested), leader)
        for model in recipe.inputs
    }
    vocabulary = merged_vocabulary(recipe, members, models)
    if vocabulary is not None:
        members = under_vocabulary(members, vocabulary)
        leader = members[leading]
    method = get_method(recipe.merge_method)
    ledger = Ledger(recipe.unmatched)
    planning = Planning(recipe, method, members, leader, ledger)
    jobs, restacked = assemble(planning)
    ledger.close(head_counts(member for member in members.values()))
    config = merged_config(
        leader,
        restacked,
        dtype=recipe.out_dtype or recipe.dtype,
        untied=ledger.untied or _is_untied(jobs, members.values()),
    )
    if vocabulary is not None and isinstance(leading, ModelRef):
        config |= config_changes(vocabulary, config, leading)
    plan = Plan(
        recipe=recipe,
        method=method,
        jobs=tuple(jobs),
        models=models,
        donor=nested[leading].donor if isinstance(leading, Recipe) else models[leading],
        config=config,
        vocabulary=vocabulary,
        notes=(
            *_notes(planning, jobs, restacked, nested.values()),
            *(vocabulary.notes if vocabulary is not None else ()),
        ),
    )
    rehearse(plan)
    return plan


def _member(
    model: ModelRef | Recipe, models: Mapping[ModelRef, Checkpoint], nested: Mapping[Recipe, Plan]
) -> Member:
    """A model under its own names: a checkpoint, or a nested recipe's result."""
    if isinstance(model, ModelRef):
        return _adapted(Member.of(model, models[model]), model, models[model])
    inner, digest = nested[model], model.digest
    label = f"the {inner.method.name} of {', '.join(str(ref) for ref in model.models)}"
    tensors = {job.name: Computed(digest, job.name, inner, job) for job in inner.jobs}
    return Member(label, inner.config, tensors)


def _adapted(member: Member, ref: ModelRef, checkpoint: Checkpoint) -> Member:
    """The model with its adapter on it, if the reference names one."""
    if ref.adapter is None:
        return member
    adapter = Adapter.open(ref.adapter)
    updates = {
        name: Adapted(update.tensor, ref.adapter, update)
        for name, update in adapter.updates(checkpoint).items()
    }
    return replace(member, tensors={**member.tensors, **updates}, notes=adapter.notes(checkpoint))


def _refuse_quantised(checkpoint: Checkpoint) -> None:
    if checkpoint.config.get("quantization_config"):
        raise CheckpointError(
            f"{checkpoint.ref}: its weights are quantised, and codes cannot be averaged",
            fix="use a version of the model in bfloat16, float16 or float32",
        )


def _is_untied(jobs: Iterable[Job], members: Iterable[Member]) -> bool:
    """Whether the result has an output matrix that some model did not tie to its embedding."""
    if not any(is_output_matrix(job.name) for job in jobs):
        return False
    # T5's models tie by the tensors they hold; what their configuration says of it scales the logits
    return any(
        not ties_embeddings(member.config) and not member.config.get("is_encoder_decoder")
        for member in members
    )


def _notes(
    planning: Planning, jobs: Sequence[Job], restacked: Sequence[Restacked], nested: Iterable[Plan]
) -> Iterator[str]:
    for plan in nested:
        yield from plan.notes
    for member in planning.members.values():
        yield from member.notes
    yield from planning.ledger.notes
    for stack in restacked:
        yield from restacking_risks(stack, planning.leader, jobs)
