"""Vocabularies and chat templates of merged models. Nothing here imports torch or transformers.

What reads tokenizers is loaded when it is first used: a recipe needs only the settings.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from mergery.tokenizer.settings import ModelToken, TokenizerSettings, TokenSettings, Zero

if TYPE_CHECKING:
    from mergery.tokenizer.chat import CHAT_TEMPLATES, resolve_chat_template, write_chat_template
    from mergery.tokenizer.comparison import VocabularyDifference, compare_vocabularies, same_vocabulary
    from mergery.tokenizer.reading import has_tokenizer
    from mergery.tokenizer.rows import AVERAGE, MIXED, ZERO, RowMap
    from mergery.tokenizer.vocabulary import Vocabulary, build_vocabulary
    from mergery.tokenizer.writing import config_changes, write_tokenizer

__all__ = [
    "AVERAGE",
    "CHAT_TEMPLATES",
    "MIXED",
    "ZERO",
    "ModelToken",
    "RowMap",
    "TokenSettings",
    "TokenizerSettings",
    "Vocabulary",
    "VocabularyDifference",
    "Zero",
    "build_vocabulary",
    "compare_vocabularies",
    "config_changes",
    "has_tokenizer",
    "resolve_chat_template",
    "same_vocabulary",
    "write_chat_template",
    "write_tokenizer",
]

_HOMES = {
    "AVERAGE": "rows",
    "CHAT_TEMPLATES": "chat",
    "MIXED": "rows",
    "RowMap": "rows",
    "Vocabulary": "vocabulary",
    "VocabularyDifference": "comparison",
    "ZERO": "rows",
    "build_vocabulary": "vocabulary",
    "compare_vocabularies": "comparison",
    "config_changes": "writing",
    "has_tokenizer": "reading",
    "resolve_chat_template": "chat",
    "same_vocabulary": "comparison",
    "write_chat_template": "chat",
    "write_tokenizer": "writing",
}


def __getattr__(name: str) -> object:
    """Import a public name from its home."""
    if name in _HOMES:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
