"""Ready-made weights: a few members of one built zoo, shipped so that the demo needs no training."""

from __future__ import annotations

import gzip
import json
import shutil
from dataclasses import replace
from pathlib import Path

from mergery.errors import ZooError
from mergery.zoo.manifest import MANIFEST, Zoo, items_path
from mergery.zoo.problems import TEST, VALIDATION
from mergery.zoo.tasks import LANGUAGE_TASKS

READY = Path(__file__).parent / "ready"
SHIPPED = ("base", "japanese", "japanese-rows", "maths", "maths-frozen", "control")
_ITEMS = "items.json.gz"
_SHARED = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")
"""Files of a model directory that are the same for every member."""


def ready_made(directory: Path | str) -> Zoo:
    """Unpack the shipped zoo, in the layout of ``build``; takes a second.

    Args:
        directory: to write to; must be empty, not exist, or hold a zoo of the same members already.

    Raises:
        ZooError: if the directory holds anything else.
    """
    directory = Path(directory)
    if directory.exists() and (
        not directory.is_dir() or (any(directory.iterdir()) and not _is_ours(directory))
    ):
        raise ZooError(f"{directory}: is not an empty directory", fix="choose another, or remove it first")
    return unpack(READY, directory)


def _is_ours(directory: Path) -> bool:
    """Whether the directory is an earlier unpacking, which may be written again."""
    manifest = directory / MANIFEST
    return manifest.is_file() and manifest.read_bytes() == (READY / MANIFEST).read_bytes()


def unpack(packed: Path, directory: Path) -> Zoo:
    """Write a packed zoo as Hugging Face model directories and JSONL items."""
    (directory / "items").mkdir(parents=True, exist_ok=True)
    for name, text in json.loads(gzip.decompress((packed / _ITEMS).read_bytes())).items():
        (directory / "items" / name).write_text(text, encoding="utf-8")
    manifest = json.loads((packed / MANIFEST).read_text(encoding="utf-8"))
    for row in manifest["members"]:
        model = directory / "models" / row["name"]
        model.mkdir(parents=True, exist_ok=True)
        for shared in _SHARED:
            shutil.copyfile(packed / shared, model / shared)
        shutil.copyfile(packed / f"{row['name']}.safetensors", model / "model.safetensors")
    # Last: a directory with a manifest is complete.
    shutil.copyfile(packed / MANIFEST, directory / MANIFEST)
    return Zoo.open(directory)


def pack_zoo(zoo: Zoo, packed: Path, members: tuple[str, ...] = SHIPPED) -> None:
    """Write the given members and the language tasks' items of a built zoo in the shipped form.

    Args:
        zoo: as built.
        packed: directory to write to.
        members: which to take, the base first.
    """
    packed.mkdir(parents=True, exist_ok=True)
    for shared in _SHARED:
        shutil.copyfile(zoo.member("base").path / shared, packed / shared)
    chosen = []
    for name in members:
        member = zoo.member(name)
        shutil.copyfile(member.path / "model.safetensors", packed / f"{name}.safetensors")
        chosen.append(
            replace(
                member, scores={task: member.scores[task] for task in LANGUAGE_TASKS if task in member.scores}
            )
        )
    tasks = {task: zoo.tasks[task] for task in LANGUAGE_TASKS}
    replace(zoo, directory=packed, members=tuple(chosen), tasks=tasks).save()
    texts = {}
    for task in tasks:
        for split in (VALIDATION, TEST):
            path = items_path(zoo.directory, task, split)
            texts[path.name] = path.read_text(encoding="utf-8")
    # Without a time stamp, so that equal items give equal bytes.
    (packed / _ITEMS).write_bytes(gzip.compress(json.dumps(texts).encode(), mtime=0))
