"""The tokenizer of the result on disk, and what its configuration says of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from mergery.checkpoint.ref import ModelRef
from mergery.tokenizer.reading import read_object, role_text
from mergery.tokenizer.vocabulary import Vocabulary

__all__ = ["config_changes", "write_tokenizer"]

_CHAT_FILES = ("chat_template*", "additional_chat_templates")
# says the same as tokenizer.json, for tokenizers of other libraries; stale once tokens change
_VOCABULARY_FILES = (
    "tokenizer*",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.*",
    "merges.txt",
    "*.model",
    "*.tiktoken",
    "tekken.json",
)
_GENERATION = "generation_config.json"
_TEXT_SECTIONS = ("text_config", "llm_config", "language_config")
_ROLES = ("bos_token_id", "eos_token_id", "pad_token_id")
_ID_ENDINGS = ("_token_id", "_token_ids", "_token_index")


def write_tokenizer(vocabulary: Vocabulary, directory: Path) -> tuple[str, ...]:
    """Write the result's tokenizer, chat template and generation settings.

    If the donor's tokenizer is taken as it stands, all its files are copied. If not, what is written is
    ``tokenizer.json`` and its settings; files that say the same for other libraries (``tokenizer.model``,
    ``vocab.json``, ...) would no longer be right and are left out.

    Args:
        vocabulary: of the result.
        directory: where to; it exists.

    Returns:
        Names of what was written, in order.
    """
    source = vocabulary.directories[vocabulary.donor]
    patterns = _CHAT_FILES if vocabulary.definition is not None else (*_CHAT_FILES, *_VOCABULARY_FILES)
    for path in _matching(source, patterns):
        copy = shutil.copytree if path.is_dir() else shutil.copyfile
        copy(path, directory / path.name)
    if vocabulary.definition is not None:
        _write_changed(vocabulary, vocabulary.definition, source, directory)
    _write_generation_config(vocabulary, directory)
    return tuple(
        sorted(path.name for path in _matching(directory, (*patterns, *_VOCABULARY_FILES, _GENERATION)))
    )


def config_changes(
    vocabulary: Vocabulary, config: Mapping[str, object], model: ModelRef
) -> dict[str, object]:
    """What to change in the result's ``config.json``: its ``vocab_size`` and every token's id.

    Ids keep their token: they are renumbered. But where the tokenizer comes from another model than the
    configuration, beginning, end and padding are that model's.

    Args:
        vocabulary: of the result.
        config: the configuration that the result starts from.
        model: whose configuration that is.

    Returns:
        New values of top-level keys; sections such as ``text_config`` are whole.
    """
    new = _renumbered(vocabulary, config, model)
    sections = [key for key in _TEXT_SECTIONS if isinstance(config.get(key), Mapping)]
    for key in sections:
        section = config[key]
        assert isinstance(section, Mapping)
        renumbered = _renumbered(vocabulary, section, model)
        new[key] = {**section, **renumbered, "vocab_size": vocabulary.rows}
    if not sections or "vocab_size" in config:
        new["vocab_size"] = vocabulary.rows
    if vocabulary.donor != model:
        _take_roles(vocabulary, new, sections)
    return {key: value for key, value in new.items() if key not in config or config[key] != value}


def _take_roles(vocabulary: Vocabulary, new: dict[str, object], sections: list[str]) -> None:
    donor = read_object(vocabulary.directories[vocabulary.donor] / "config.json")
    theirs = [donor, *(donor[key] for key in _TEXT_SECTIONS if isinstance(donor.get(key), Mapping))]
    for role in _ROLES:
        given = [part[role] for part in theirs if isinstance(part, Mapping) and part.get(role) is not None]
        if given:
            value = _new_id(vocabulary, given[0], vocabulary.donor)
            new[role] = value
            for key in sections:
                section = new[key]
                assert isinstance(section, dict)
                section[role] = value


def _renumbered(vocabulary: Vocabulary, config: Mapping[str, object], model: ModelRef) -> dict[str, object]:
    """The keys that hold ids of tokens, with the result's ids."""
    return {
        key: _new_id(vocabulary, value, model) for key, value in config.items() if key.endswith(_ID_ENDINGS)
    }


def _new_id(vocabulary: Vocabulary, value: object, model: ModelRef) -> object:
    """The result's id for a model's, ``None`` if the token is gone; lists lose such ids."""
    if isinstance(value, list):
        return [new for entry in value if (new := _new_id(vocabulary, entry, model)) is not None] or None
    renumbering = vocabulary.renumbering[model]
    if not isinstance(value, int) or not 0 <= value < len(renumbering):
        return value  # a mark, such as -1
    new = int(renumbering[value])
    return new if new >= 0 else None


def _write_changed(vocabulary: Vocabulary, definition: str, source: Path, directory: Path) -> None:
    (directory / "tokenizer.json").write_text(definition, encoding="utf-8")
    settings = _without_lost(read_object(source / "tokenizer_config.json"), vocabulary.tokens)
    if "added_tokens_decoder" in settings:  # where it is there, it counts in place of tokenizer.json's list
        added = json.loads(definition)["added_tokens"]
        settings["added_tokens_decoder"] = {
            str(token["id"]): {key: value for key, value in token.items() if key != "id"} for token in added
        }
    roles = _without_lost(read_object(source / "special_tokens_map.json"), vocabulary.tokens)
    for name, content in (("tokenizer_config.json", settings), ("special_tokens_map.json", roles)):
        if (source / name).exists():
            _write_object(directory / name, content)


def _without_lost(settings: Mapping[str, object], tokens: Mapping[str, int]) -> dict[str, object]:
    """Tokenizer settings without tokens that are no longer there: transformers would add them again."""
    kept: dict[str, object] = {}
    for key, value in settings.items():
        if key in ("extra_special_tokens", "additional_special_tokens"):
            kept[key] = _present(value, tokens)
        elif not (key.endswith("_token") and (text := role_text(value)) is not None and text not in tokens):
            kept[key] = value
    return kept


def _present(extra: object, tokens: Mapping[str, int]) -> object:
    if isinstance(extra, Mapping):
        return {name: token for name, token in extra.items() if role_text(token) in tokens}
    return [token for token in extra if role_text(token) in tokens] if isinstance(extra, list) else extra


def _write_generation_config(vocabulary: Vocabulary, directory: Path) -> None:
    """The donor's generation settings, with the result's ids."""
    source = vocabulary.directories[vocabulary.donor] / _GENERATION
    if not source.exists():
        return
    settings = read_object(source)
    changed = settings | _renumbered(vocabulary, settings, vocabulary.donor)
    if changed == settings:
        shutil.copyfile(source, directory / _GENERATION)
    else:
        _write_object(directory / _GENERATION, changed)


def _write_object(file: Path, content: Mapping[str, object]) -> None:
    file.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def _matching(directory: Path, patterns: tuple[str, ...]) -> Iterator[Path]:
    """Each file or folder once."""
    found = (path for pattern in patterns for path in sorted(directory.glob(pattern)))
    return iter(dict.fromkeys(found))
