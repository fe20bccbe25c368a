"""Recipes: what to merge and how, as frozen data. Nothing here imports torch."""

from mergery.checkpoint import ModelRef
from mergery.recipe.documents import Reading, read_file, read_yaml
from mergery.recipe.recipe import InputModel, OutputModule, OutputSlice, Recipe, Unmatched
from mergery.recipe.settings import Setting

__all__ = [
    "InputModel",
    "ModelRef",
    "OutputModule",
    "OutputSlice",
    "Reading",
    "Recipe",
    "Setting",
    "Unmatched",
    "read_file",
    "read_yaml",
]
