"""An adapter's ``adapter_config.json``, as peft saves it, read strictly."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mergery.checkpoint.checkpoint import read_json
from mergery.errors import CheckpointError

__all__ = ["MERGE_FIRST", "Settings"]

MERGE_FIRST = (
    "merge it with peft, PeftModel.from_pretrained(base, adapter).merge_and_unload(), "
    "save the result and use that as the model"
)

_CONVERT = (
    "convert it with peft, save_pretrained(new, path_initial_model_for_weight_conversion=initial), "
    "or, where it can still be loaded on its own base, " + MERGE_FIRST
)

_REFUSED = {
    "alora_invocation_tokens": "acts on some tokens only (aLoRA)",
    "arrow_config": "chooses between adapters for each token (Arrow)",
    "kasa_config": "changed its base (KaSA)",
    "layer_replication": "repeats layers of its base",
    "megatron_config": "was made for Megatron's parallel layers",
    "monteclora_config": "is a distribution (MonteCLoRA)",
    "use_bdlora": "is block-diagonal (BD-LoRA)",
    "use_qalora": "pools its inputs (QA-LoRA)",
    "velora_config": "was trained with compressed activations (VeLoRA)",
}
"""Variants of LoRA that are something else than a low-rank product on a weight, by their setting."""

_BASE_KEPT = ("true", "false", "none", "gaussian", "eva", "orthogonal", "mica")
_BASE_CHANGED = ("pissa", "corda", "olora", "loftq", "lora_ga")
"""Initialisations that subtract the initial product from the base: alone, such an adapter means nothing."""

_WITHOUT_EFFECT = (
    "auto_mapping",
    "bias",
    "corda_config",
    "ensure_weight_tying",
    "eva_config",
    "exclude_modules",
    "inference_mode",
    "layers_pattern",
    "layers_to_transform",
    "loftq_config",
    "lora_bias",
    "lora_dropout",
    "lora_ga_config",
    "megatron_core",
    "modules_to_save",
    "peft_version",
    "qalora_group_size",
    "runtime_config",
    "target_modules",
    "task_type",
)
"""Settings that matter in training, or that say again what the names of the saved tensors say."""

_READ = (
    "alpha_pattern",
    "base_model_name_or_path",
    "fan_in_fan_out",
    "init_lora_weights",
    "lora_alpha",
    "peft_type",
    "r",
    "rank_pattern",
    "revision",
    "target_parameters",
    "trainable_token_indices",
    "use_dora",
    "use_rslora",
)


@dataclass(frozen=True)
class Settings:
    """What the arithmetic needs to know of ``adapter_config.json``.

    Attributes:
        file: the file it was read from.
        base: the model that the adapter was trained on, as its author named it.
        revision: that model's revision.
        rank: the rank, where no pattern says otherwise.
        alpha: the numerator of the scale, where no pattern says otherwise.
        rank_pattern: ranks by regular expression on a module's name, first match first.
        alpha_pattern: alphas, in the same way.
        rslora: whether the scale is alpha / sqrt(rank) (arXiv:2312.03732) and not alpha / rank.
        dora: whether rows keep a magnitude of their own (DoRA, arXiv:2402.09353).
        input_first: whether the adapted layers store their weights as (in, out).
        parameters: names of adapted parameters that are no module's ``weight``.
        tokens: rows of embeddings trained in full, by the end of their module's name; ``""`` for the
            input embeddings.
        unknown: settings with a value that are not known here.
    """

    file: Path
    base: str | None
    revision: str | None
    rank: float
    alpha: float
    rank_pattern: Mapping[str, float]
    alpha_pattern: Mapping[str, float]
    rslora: bool
    dora: bool
    input_first: bool
    parameters: tuple[str, ...]
    tokens: Mapping[str, tuple[int, ...]]
    unknown: tuple[str, ...]

    @classmethod
    def read(cls, file: Path) -> Settings:
        """Read the settings of a LoRA adapter.

        Raises:
            CheckpointError: if the file cannot be read, or the adapter is of a kind that cannot be
                applied tensor by tensor.
        """
        config = read_json(file, missing="not an adapter directory: it has no adapter_config.json")
        _refuse(file, config)
        entries = _Entries(file, config)
        known = (*_READ, *_WITHOUT_EFFECT, *_REFUSED)
        return cls(
            file,
            base=entries.text("base_model_name_or_path"),
            revision=entries.text("revision"),
            rank=entries.number("r", 8),
            alpha=entries.number("lora_alpha", 8),
            rank_pattern=entries.pattern("rank_pattern"),
            alpha_pattern=entries.pattern("alpha_pattern"),
            rslora=entries.flag("use_rslora"),
            dora=entries.flag("use_dora"),
            input_first=entries.flag("fan_in_fan_out"),
            parameters=entries.parameters(),
            tokens=entries.tokens(),
            unknown=tuple(key for key, value in config.items() if key not in known and value),
        )

    def scale(self, layer: str, rank: int) -> float:
        """What the product of one layer's matrices is multiplied with.

        Args:
            layer: the name of the module, or of the parameter where no module's weight is adapted.
            rank: the rank that its saved matrices have.

        Raises:
            CheckpointError: if the settings speak of another rank.
        """
        if (said := self._of(self.rank_pattern, layer, self.rank)) != rank:
            raise CheckpointError(
                f"{self.file}: {layer} has rank {said} by r and rank_pattern, and its matrices have {rank}",
                fix="correct r or rank_pattern: the scale hangs on it",
            )
        return self._of(self.alpha_pattern, layer, self.alpha) / (math.sqrt(rank) if self.rslora else rank)

    def rows(self, module: str) -> tuple[int, ...]:
        """The rows of an embedding that ``trainable_token_indices`` names; none if it does not."""
        return next((rows for end, rows in self.tokens.items() if module.endswith(end)), ())

    def _of(self, patterns: Mapping[str, float], layer: str, otherwise: float) -> float:
        """The first pattern that matches the end of the name, from a dot on (peft 0.15 and later)."""
        for pattern, value in patterns.items():
            try:
                if re.match(rf"(.*\.)?({pattern})$", layer):
                    return value
            except re.error as problem:
                raise CheckpointError(
                    f"{self.file}: {pattern!r} is no regular expression: {problem}",
                    fix="correct rank_pattern or alpha_pattern",
                ) from problem
        return otherwise


def _refuse(file: Path, config: Mapping[str, object]) -> None:
    kind = config.get("peft_type")
    if kind is None:
        raise CheckpointError(f"{file}: it has no peft_type", fix="give the directory of a PEFT adapter")
    if kind != "LORA":
        raise CheckpointError(f"{file}: an adapter of type {kind}, not LORA", fix=MERGE_FIRST)
    for key, reason in _REFUSED.items():
        if config.get(key):
            raise CheckpointError(f"{file}: {key}: the adapter {reason}", fix=MERGE_FIRST)
    start = str(config.get("init_lora_weights", True)).lower()
    if start.startswith(_BASE_CHANGED):
        raise CheckpointError(
            f"{file}: init_lora_weights: {start} changed the base before training, so the adapter does not "
            "hold the difference from it",
            fix=_CONVERT,
        )
    if start not in _BASE_KEPT:
        raise CheckpointError(
            f"{file}: init_lora_weights: {start} is not known, and may have changed the base", fix=MERGE_FIRST
        )


@dataclass(frozen=True)
class _Entries:
    """Typed looks into the file."""

    file: Path
    config: Mapping[str, object]

    def text(self, key: str) -> str | None:
        value = self.config.get(key)
        return value if isinstance(value, str) and value else None

    def flag(self, key: str) -> bool:
        value = self.config.get(key)
        if not isinstance(value, bool | None):
            raise self._wrong(key, "true or false")
        return bool(value)

    def number(self, key: str, otherwise: float) -> float:
        value = self.config.get(key, otherwise)
        if not _is_number(value):
            raise self._wrong(key, "a number")
        assert isinstance(value, int | float)
        return value

    def pattern(self, key: str) -> dict[str, float]:
        value = self.config.get(key) or {}
        if not isinstance(value, dict) or not all(map(_is_number, value.values())):
            raise self._wrong(key, "numbers by name")
        return value

    def parameters(self) -> tuple[str, ...]:
        value = self.config.get("target_parameters") or []
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            raise self._wrong("target_parameters", "a list of names")
        return tuple(value)

    def tokens(self) -> dict[str, tuple[int, ...]]:
        value = self.config.get("trainable_token_indices") or {}
        rows = {"": value} if isinstance(value, list) else value
        if not isinstance(rows, dict) or not all(map(_are_rows, rows.values())):
            raise self._wrong("trainable_token_indices", "lists of different rows")
        return {end: tuple(indices) for end, indices in rows.items()}

    def _wrong(self, key: str, expected: str) -> CheckpointError:
        return CheckpointError(
            f"{self.file}: {key}: expected {expected}, got {self.config[key]!r}", fix="correct it"
        )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _are_rows(value: object) -> bool:
    return (
        isinstance(value, list)
        and all(isinstance(row, int) and row >= 0 for row in value)
        and len(dict.fromkeys(value)) == len(value)
    )
