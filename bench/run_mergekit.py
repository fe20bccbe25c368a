"""mergekit-yaml of 0.1.4, run under mergekit's own interpreter.

As released, with the pydantic that it pins, it stops at "class not fully defined" (its issue 681): names that
its models' annotations use are imported for type checkers only. They are completed here; nothing else is.
"""

from __future__ import annotations

import contextlib
import sys

import pydantic
import torch
import transformers
from mergekit.scripts.run_yaml import main


def descendants(parent: type) -> list[type]:
    """All subclasses, at any depth."""
    return [found for child in parent.__subclasses__() for found in (child, *descendants(child))]


MISSING = {
    "torch": torch,
    "transformers": transformers,
    "PreTrainedTokenizerBase": transformers.PreTrainedTokenizerBase,
    "PretrainedConfig": transformers.PretrainedConfig,
}

for model in descendants(pydantic.BaseModel):
    if model.__module__.startswith("mergekit"):
        with contextlib.suppress(pydantic.errors.PydanticUndefinedAnnotation):
            names = {**vars(sys.modules[model.__module__]), **MISSING}
            model.model_rebuild(force=True, _types_namespace=names)

main()
