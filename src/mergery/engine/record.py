"""What a merge says about itself: the model card, and the lock file that pins it byte for byte."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path

import yaml

from mergery.checkpoint import Checkpoint, ModelRef
from mergery.engine.plan import Plan

__all__ = ["file_digest", "lock_data", "merge_key", "model_card"]

_LOCK_VERSION = 1


def file_digest(file: Path) -> str:
    """sha256 of a file, in hexadecimal: what the Hugging Face hub shows for it."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def merge_key(plan: Plan, shard_bytes: int) -> str:
    """Names a merge: the same key is the same recipe on the same input files, cut the same way."""
    stamps = [
        (str(file), status.st_size, status.st_mtime_ns)
        for checkpoint in plan.models.values()
        for file in checkpoint.files
        for status in [file.stat()]
    ]
    text = json.dumps([version("mergery"), plan.recipe.digest, shard_bytes, stamps])
    return hashlib.sha256(text.encode()).hexdigest()


def lock_data(plan: Plan, directory: Path, weights: Iterable[str]) -> dict[str, object]:
    """The lock file's content: the same merge gives the same text.

    Args:
        plan: what was run.
        directory: where the weight files lie.
        weights: their names.
    """
    return {
        "lock_version": _LOCK_VERSION,
        "mergery": version("mergery"),
        "torch": version("torch").partition("+")[0],
        "recipe": plan.recipe.to_dict(),
        "recipe_sha256": plan.recipe.digest,
        "inputs": {str(ref): _input(checkpoint) for ref, checkpoint in plan.models.items()},
        "outputs": {name: file_digest(directory / name) for name in weights},
    }


def model_card(plan: Plan) -> str:
    """The model's README.md, with the metadata that the hub reads."""
    models = [str(ref) for ref in plan.models]
    hub = [str(ref.path) for ref in plan.models if not _is_local(ref)]
    front: dict[str, object] = {"library_name": "transformers", "tags": ["merge", "mergery"]}
    if hub:
        front |= {"base_model": hub, "base_model_relation": "merge"}
    method = plan.method
    base = f" The base is `{plan.recipe.base_model}`." if plan.recipe.base_model else ""
    return "\n".join(
        [
            "---",
            yaml.safe_dump(front, sort_keys=False).strip(),
            "---",
            "",
            "# A merge made with Mergery",
            "",
            f"Merged from {len(models)} models with `{method.name}` ({method.paper}).{base}",
            "",
            *(f"- `{model}`" for model in models),
            "",
            "## Recipe",
            "",
            "```yaml",
            plan.recipe.to_yaml().strip(),
            "```",
            "",
            "`mergery.lock.json` has the digests of every input and output file.",
            "",
        ]
    )


def _input(checkpoint: Checkpoint) -> dict[str, object]:
    files = {file.name: file_digest(file) for file in checkpoint.files}
    # the hub keeps a snapshot in a folder named by its commit
    commit = checkpoint.directory.name if checkpoint.directory.parent.name == "snapshots" else None
    return {"files": files} | ({"commit": commit} if commit else {})


def _is_local(ref: ModelRef) -> bool:
    return Path(ref.path).expanduser().exists()
