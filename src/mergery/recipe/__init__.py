"""Recipes: what to merge and how, as frozen data. Nothing here imports torch."""

from mergery.checkpoint import ModelRef
from mergery.recipe.recipe import InputModel, OutputSlice, Recipe
from mergery.recipe.settings import Setting

__all__ = ["InputModel", "ModelRef", "OutputSlice", "Recipe", "Setting"]
