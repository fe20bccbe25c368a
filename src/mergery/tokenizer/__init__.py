"""Vocabularies and chat templates of merged models. Nothing here imports torch or transformers."""

from mergery.tokenizer.settings import ModelToken, TokenizerSettings, TokenSettings, Zero

__all__ = ["ModelToken", "TokenSettings", "TokenizerSettings", "Zero"]
