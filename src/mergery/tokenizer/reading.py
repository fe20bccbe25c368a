"""Tokenizers of model directories, opened as transformers opens them, without transformers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import TypeAlias

from tokenizers import AddedToken, Tokenizer

from mergery.errors import CheckpointError

__all__ = [
    "Flags",
    "TokenizerFile",
    "has_tokenizer",
    "read_object",
    "read_tokenizer",
    "role_text",
    "tokenizer_digest",
]

Flags: TypeAlias = Mapping[str, bool]

_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json")
_SLOW_FILES = (
    "tokenizer.model",
    "spiece.model",
    "*.tiktoken",
    "tiktoken.model",
    "tekken.json",
    "*.bpe.model",
)
_SLOW_TEXTS = ("vocab.json", "vocab.txt")
# the roles that transformers knows, in the order in which it adds their tokens to a vocabulary without them
_ROLES = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")
_FIX_CONVERT = (
    "convert it with transformers: AutoTokenizer.from_pretrained(directory).save_pretrained(directory)"
)


@dataclass(frozen=True)
class TokenizerFile:
    """A fast tokenizer.

    Attributes:
        directory: where it lies.
        text: its ``tokenizer.json`` as the tokenizers library writes it, with the tokens that only the
            files beside it name.
        kind: of its model: ``BPE``, ``Unigram``, ``WordPiece`` or ``WordLevel``.
        ids: every token's row, in the order of the rows.
        added: flags of the tokens that are found in text before it is split, by row.
        settings: its ``tokenizer_config.json``.
    """

    directory: Path
    text: str
    kind: str
    ids: Mapping[str, int]
    added: Mapping[str, Flags]
    settings: Mapping[str, object]

    @property
    def definition(self) -> dict[str, object]:
        """The text, parsed. Not kept: large vocabularies take 100 MB as objects."""
        definition: dict[str, object] = json.loads(self.text)
        return definition


def has_tokenizer(directory: Path) -> bool:
    """Whether a model directory has a tokenizer of any kind."""
    return (directory / "tokenizer.json").exists() or _slow_file(directory) is not None


def tokenizer_digest(directory: Path) -> str:
    """A hash of the files that :func:`read_tokenizer` reads."""
    digest = hashlib.sha256()
    for file in (directory / name for name in _FILES):
        content = file.read_bytes() if file.exists() else b""
        digest.update(f"{file.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def read_tokenizer(directory: Path) -> TokenizerFile:
    """Open a model directory's tokenizer.

    Raises:
        CheckpointError: if there is none, it is a slow one, or it cannot be read.
    """
    file = directory / "tokenizer.json"
    if not file.exists():
        slow = _slow_file(directory)
        if slow is None:
            raise CheckpointError(f"{directory}: no tokenizer", fix="download or save the model again")
        raise CheckpointError(f"{directory}: its tokenizer is {slow}, not tokenizer.json", fix=_FIX_CONVERT)
    settings = read_object(directory / "tokenizer_config.json")
    try:
        backend = Tokenizer.from_file(str(file))
        known = backend.get_vocab(with_added_tokens=True)
        declared = {token.content: token for token in _declared(directory, settings)}
        backend.add_tokens([token for text, token in declared.items() if text not in known])
    except Exception as problem:  # the library raises nothing narrower
        raise CheckpointError(f"{file}: {problem}", fix="download or save the tokenizer again") from problem
    added = sorted(backend.get_added_tokens_decoder().items())
    return TokenizerFile(
        directory,
        backend.to_str(),
        type(backend.model).__name__,
        dict(sorted(backend.get_vocab(with_added_tokens=True).items(), key=itemgetter(1))),
        {token.content: _flags(token) for _, token in added},
        settings,
    )


def read_object(file: Path) -> dict[str, object]:
    """A JSON object of a model directory; empty if the file is not there."""
    if not file.exists():
        return {}
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as problem:
        raise CheckpointError(f"{file}: cannot be read as JSON", fix="download the model again") from problem
    if not isinstance(data, dict):
        raise CheckpointError(f"{file}: not a JSON object", fix="download the model again")
    return data


def role_text(value: object) -> str | None:
    """A token's text in ``tokenizer_config.json``, where it is a string or an object with flags."""
    if isinstance(value, Mapping):
        value = value.get("content")
    return value if isinstance(value, str) else None


def _slow_file(directory: Path) -> str | None:
    for pattern in (*_SLOW_FILES, *_SLOW_TEXTS):
        for file in sorted(directory.glob(pattern)):
            return file.name
    return None


def _flags(token: AddedToken) -> Flags:
    return {
        "single_word": token.single_word,
        "lstrip": token.lstrip,
        "rstrip": token.rstrip,
        "normalized": token.normalized,
        "special": token.special,
    }


def _declared(directory: Path, settings: Mapping[str, object]) -> Iterator[AddedToken]:
    """Tokens that the files beside ``tokenizer.json`` name, in the order in which transformers adds them."""
    decoder = settings.get("added_tokens_decoder")
    roles = dict(settings)
    if isinstance(decoder, Mapping):
        for _, token in sorted((int(key), token) for key, token in decoder.items()):
            yield _added(token)
    else:  # older directories
        roles |= read_object(directory / "special_tokens_map.json")
        numbered = read_object(directory / "added_tokens.json")
        for text, _ in sorted(numbered.items(), key=lambda item: int(str(item[1]))):
            yield AddedToken(text, normalized=True)
    others = [key for key in roles if key.endswith("_token") and key not in _ROLES]
    named = [roles.get(key) for key in (*_ROLES, *others)]
    for key in ("extra_special_tokens", "additional_special_tokens"):
        extra = roles.get(key)
        named += extra.values() if isinstance(extra, Mapping) else extra if isinstance(extra, list) else ()
    yield from (_added(token) for token in named if role_text(token) is not None)


def _added(token: object) -> AddedToken:
    if isinstance(token, Mapping):
        flags = {key: value for key, value in token.items() if key not in ("__type", "id", "content")}
        return AddedToken(token["content"], **({"special": True} | flags))
    return AddedToken(str(token), special=True)
