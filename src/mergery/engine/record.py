"""What a merge says about itself: the model card, and the lock file that pins it byte for byte."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import xxhash
import yaml

from mergery.checkpoint import Checkpoint, ModelRef, TensorInfo
from mergery.checkpoint.adapter import Adapter
from mergery.checkpoint.safetensors import FileStamp
from mergery.engine.plan import Plan
from mergery.engine.sink import Evidence

__all__ = ["input_stamps", "lock_data", "merge_key", "model_card"]

_LOCK_VERSION = 2
_SETTINGS = ("*.json", "*.jinja", "*.model", "merges.txt", "vocab.txt")


def merge_key(plan: Plan, shard_bytes: int, device: str) -> str:
    """Names a merge: the same key is the same bytes.

    It is made of the recipe, the state of the input files when they were opened, the size of a shard and
    the type of device.
    """
    stamps = [(str(file), stamp.size, stamp.modified) for file, stamp in input_stamps(plan).items()]
    kind = device.partition(":")[0]
    text = json.dumps([version("mergery"), plan.recipe.digest, shard_bytes, kind, stamps])
    return hashlib.sha256(text.encode()).hexdigest()


def input_stamps(plan: Plan) -> dict[Path, FileStamp]:
    """The state of all input files: of weights when they were opened, of the others now."""
    stamps: dict[Path, FileStamp] = {}
    for checkpoint in plan.models.values():
        stamps |= _stamps(checkpoint)
    return stamps


def lock_data(
    plan: Plan, evidence: Mapping[str, Evidence], files: Mapping[str, Sequence[str]]
) -> dict[str, object]:
    """The lock file's content: the same merge gives the same text.

    A digest is the XXH3 (128 bits) of the lines ``name digest`` of tensors in the order of their names,
    where each tensor's digest is that of its bytes.

    Args:
        plan: what was run.
        evidence: what is known of every tensor of the result.
        files: names of the tensors in each weight file.
    """
    return {
        "lock_version": _LOCK_VERSION,
        "mergery": version("mergery"),
        "recipe": plan.recipe.to_dict(),
        "recipe_sha256": plan.recipe.digest,
        "inputs": {str(ref): _input(checkpoint, plan, evidence) for ref, checkpoint in plan.models.items()},
        "outputs": {
            file: {"xxh3_128": _digest({name: str(evidence[name]["xxh3"]) for name in names})}
            for file, names in files.items()
        },
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


def _input(checkpoint: Checkpoint, plan: Plan, evidence: Mapping[str, Evidence]) -> dict[str, object]:
    files = frozenset(checkpoint.files)
    read: dict[str, str] = {}
    for job in plan.jobs:
        digests = evidence[job.name].get("inputs", ())
        assert isinstance(digests, Sequence)
        for operand, digest in zip(job.sources, digests, strict=False):
            if isinstance(operand, TensorInfo) and operand.file in files and digest:
                read[operand.name] = str(digest)
    # the hub keeps a snapshot in a folder named by its commit
    commit = checkpoint.directory.name if checkpoint.directory.parent.name == "snapshots" else None
    return {"tensors": len(read), "xxh3_128": _digest(read)} | ({"commit": commit} if commit else {})


def _digest(tensors: Mapping[str, str]) -> str:
    lines = "".join(f"{name} {tensors[name]}\n" for name in sorted(tensors))
    return xxhash.xxh3_128(lines.encode()).hexdigest()


def _stamps(checkpoint: Checkpoint) -> dict[Path, FileStamp]:
    """The state of all files that decide what a model, and its adapter, bring into a merge."""
    adapter = Adapter.open(checkpoint.ref.adapter) if checkpoint.ref.adapter else None
    tensors = [*checkpoint.tensors.values(), *(adapter.tensors.values() if adapter else ())]
    stamps = {tensor.file: tensor.stamp for tensor in tensors if tensor.stamp}
    directories = [checkpoint.directory, *([adapter.directory] if adapter else [])]
    settings = [file for place in directories for kind in _SETTINGS for file in sorted(place.glob(kind))]
    return stamps | {file: FileStamp.of(file.stat()) for file in settings}


def _is_local(ref: ModelRef) -> bool:
    return Path(ref.path).expanduser().exists()
