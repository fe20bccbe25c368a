"""What makes merges fail in silence, as configurations, tokenizers and types tell it; no weight is read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from mergery.checkpoint import Checkpoint
from mergery.checkpoint.architecture import EXCEPTIONS, is_output_matrix
from mergery.engine.accounting import ties_embeddings
from mergery.engine.alignment import Member
from mergery.engine.assembly import Restacked
from mergery.engine.configuration import configured_layers, text_config
from mergery.engine.job import Job
from mergery.errors import CheckpointError
from mergery.tokenizer import compare_vocabularies
from mergery.tokenizer.reading import has_tokenizer

__all__ = ["head_counts", "model_risks", "restacking_risks"]

_HEADS = ("num_attention_heads", "n_head", "num_heads", "num_key_value_heads", "head_dim")
_POSITIONS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len")
_COMPUTING = (
    *("hidden_act", "hidden_activation", "activation_function"),
    *("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_epsilon"),
    *("sliding_window", "attn_logit_softcapping", "final_logit_softcapping", "query_pre_attn_scalar"),
    *("num_experts_per_tok", "norm_topk_prob", "partial_rotary_factor"),
    *("embedding_multiplier", "residual_multiplier", "attention_multiplier", "logits_scaling"),
)
_ROPE = ("rope_theta", "rope_scaling", "rope_parameters")

_BY_NUMBER: list[str] = EXCEPTIONS["by_number"]["settings"]


def model_risks(
    donor: Checkpoint, models: Iterable[Checkpoint], *, own_vocabulary: bool = False
) -> Iterator[str]:
    """Differences between the models that no shape shows.

    Args:
        donor: where the result's configuration and tokenizer come from.
        models: all models.
        own_vocabulary: whether the recipe builds a vocabulary, so that tokenizers may differ.

    Yields:
        One sentence each, the same in every run.
    """
    models = list(models)
    for model in models:
        yield from _settings(model, donor)
    for model in models:
        yield from _layer_counts(model)
    if not own_vocabulary:
        for model in models:
            yield from _vocabularies(model, donor)
    yield from _types(models, donor)


def head_counts(members: Iterable[Member]) -> str:
    """How the models' numbers of attention heads differ; empty if they do not."""
    members = list(members)
    found = []
    for key in _HEADS:
        values = [text_config(member.config).get(key) for member in members]
        if any(value != values[0] for value in values):
            found.append(f"{key} is {', '.join(map(str, values))}")
    return "; ".join(found)


def restacking_risks(stack: Restacked, leader: Member, jobs: Sequence[Job]) -> Iterator[str]:
    """What does not follow when layers are stacked anew.

    Args:
        stack: the stack, with its layers' origin.
        leader: the model whose configuration the result has.
        jobs: the result's tensors.
    """
    config = text_config(leader.config)
    moved = [index for _, index in stack.origin] != list(range(leader.depth(stack.stack)))
    if moved and "layer_types" not in config:
        for key in _BY_NUMBER:
            if config.get(key):
                yield f"{key} is {config[key]}: a layer's kind follows from its number, and layers have moved"
    first, last = stack.origin[0][0], stack.origin[-1][0]
    headless = not any(is_output_matrix(job.name) for job in jobs)
    if first is not last and headless and ties_embeddings(leader.config):
        yield (
            f"the output matrix is tied to the embedding of {first.label}, and the last layers come from "
            f"{last.label}"
        )


def _settings(model: Checkpoint, donor: Checkpoint) -> Iterator[str]:
    """Settings of the configuration that differ from the donor's."""
    own, theirs = text_config(model.config), text_config(donor.config)

    def differ(key: str) -> bool:
        return key in own and key in theirs and own[key] != theirs[key]

    def values(key: str) -> str:
        return f"{key} is {own[key]} in {model.ref} and {theirs[key]} in {donor.ref}"

    if differ("model_type"):
        yield f"{values('model_type')}: the result takes the latter"
    for key in _HEADS:
        if differ(key):
            yield f"{values(key)}: their attention is cut into heads that do not correspond"
    for key in _POSITIONS:
        if differ(key):
            yield f"{values(key)}: the result takes the latter, and was not made for positions beyond it"
    ours, others = _rope(own), _rope(theirs)
    for key in dict.fromkeys([*ours, *others]) if ours and others else ():
        if ours.get(key) != others.get(key):
            yield (
                f"{key} of rope is {ours.get(key)} in {model.ref} and {others.get(key)} in {donor.ref}: the "
                "result takes the latter, and the attention of the former is not made for it"
            )
    for key in _COMPUTING:
        if differ(key):
            yield f"{values(key)}: the result takes the latter"


def _rope(config: Mapping[str, object]) -> dict[str, object]:
    """The rotary embedding's settings, the same for all the ways in which configurations write them.

    Empty if the configuration leaves them to its class.
    """
    if not any(key in config for key in _ROPE):
        return {}
    settings: dict[str, object] = {}
    for key in ("rope_scaling", "rope_parameters"):
        inner = config.get(key)
        if isinstance(inner, dict):
            settings |= inner
    for kind, prefix in (("full_attention", ""), ("sliding_attention", "local ")):
        inner = settings.pop(kind, None)
        if isinstance(inner, dict):
            settings |= {f"{prefix}{key}": value for key, value in inner.items()}
    for key, meaning in (("rope_theta", "rope_theta"), ("rope_local_base_freq", "local rope_theta")):
        if config.get(key) is not None:
            settings.setdefault(meaning, config[key])
    settings.setdefault("rope_type", settings.pop("type", None) or "default")
    if "local rope_theta" in settings:
        settings.setdefault("local rope_type", "default")
    return settings


def _layer_counts(model: Checkpoint) -> Iterator[str]:
    member = Member.of(model.ref, model)
    for stack in member.stacks:
        counts = configured_layers(model.config, stack)
        if counts and member.depth(stack) not in counts.values():
            said = ", ".join(f"{key}: {count}" for key, count in counts.items())
            yield f"{model.ref} has {member.depth(stack)} layers in {stack.rstrip('.')} and says {said}"


def _vocabularies(model: Checkpoint, donor: Checkpoint) -> Iterator[str]:
    first, second = model.directory, donor.directory
    if first == second or not (has_tokenizer(first) and has_tokenizer(second)):
        return
    try:
        difference = compare_vocabularies(first, second)
    except CheckpointError as problem:
        yield f"the tokenizers of {model.ref} and {donor.ref} cannot be compared: {problem.message}"
        return
    said = difference.describe(str(model.ref), str(donor.ref))
    if said:
        yield (
            f"the tokenizers of {model.ref} and {donor.ref} differ ({said}): their embeddings may mean other "
            "words; the result takes the latter, unless the recipe says tokenizer_source: union"
        )


def _types(models: Sequence[Checkpoint], donor: Checkpoint) -> Iterator[str]:
    types = {str(model.ref): _float_types(model) for model in models}
    if len(dict.fromkeys(types.values())) > 1:
        said = ", ".join(f"{ref} {kinds}" for ref, kinds in types.items())
        yield (
            f"the models are stored in different types ({said}): without dtype: the result is "
            f"{_float_types(donor)}, and what is finer in others is rounded away"
        )


def _float_types(model: Checkpoint) -> str:
    kinds = dict.fromkeys(info.dtype for info in model.tensors.values() if info.is_float)
    return " and ".join(sorted(kinds))
