"""A recipe in, a Hugging Face model directory out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from mergery.engine.configuration import copy_companions
from mergery.engine.executors import Work, choose_executor
from mergery.engine.files import check_unchanged
from mergery.engine.journal import JOURNAL_FILE
from mergery.engine.output import check_free, staged_directory, writing
from mergery.engine.plan import Plan, make_plan
from mergery.engine.record import input_stamps, lock_data, merge_key, model_card
from mergery.engine.sink import DirectorySink, Evidence
from mergery.engine.survival import Survival, total_survival
from mergery.recipe import Recipe
from mergery.tokenizer import resolve_chat_template, write_chat_template, write_tokenizer

__all__ = ["DEFAULT_SHARD_BYTES", "LOCK_FILE", "RECIPE_FILE", "Merged", "merge"]

DEFAULT_SHARD_BYTES = 5_000_000_000
LOCK_FILE = "mergery.lock.json"
RECIPE_FILE = "mergery.yml"


@dataclass(frozen=True)
class Merged:
    """What a merge wrote.

    Attributes:
        directory: the model.
        files: its weight files.
        bytes: the size of its tensors.
        plan: what was run.
        survival: what the cast to the written type left of each tensor's change from the base, where
            there is one.
    """

    directory: Path
    files: tuple[str, ...]
    bytes: int
    plan: Plan
    survival: tuple[Survival, ...] = ()

    @property
    def survived(self) -> Survival | None:
        """What the cast left of the whole model's change; ``None`` where nothing has a base."""
        return total_survival(self.survival)

    @property
    def risks(self) -> tuple[str, ...]:
        """What the user should know about the result."""
        return self.plan.risks


def merge(
    recipe: Recipe | Path | str,
    out: Path | str,
    *,
    threads: int | None = None,
    shard_bytes: int = DEFAULT_SHARD_BYTES,
    device: str = "cpu",
    executor: str = "auto",
    progress: Callable[[int, int], None] | None = None,
) -> Merged:
    """Merge models into a Hugging Face model directory.

    Until everything is written, ``out`` does not exist; after an error it never does.

    Args:
        recipe: what to merge, or the path of its YAML file.
        out: the directory to write; it must not exist, or be empty.
        threads: tensors merged at a time; by default one more than there are processors. With Ray, each
            task's; by default 1.
        shard_bytes: size of a weight file.
        device: where to compute (``cpu``, ``cuda`` for all such devices, ``cuda:1``, …).
        executor: ``threads`` or ``processes`` of this machine, or ``ray``; by default a process for each
            device where there are several, and threads otherwise. Processes import the script that calls
            this: it does so below ``if __name__ == "__main__":``.
        progress: told the bytes written so far and in all.

    Raises:
        MergeryError: if the recipe, a model or the output directory is at fault; nothing is left behind.
    """
    recipe = recipe if isinstance(recipe, Recipe) else Recipe.load(recipe)
    out = Path(out)
    run = choose_executor(executor, device)
    check_free(out)
    plan = make_plan(recipe)
    check_free(out, plan.bytes_written)

    with staged_directory(out, scaffold=JOURNAL_FILE) as staging:
        stamps = input_stamps(plan)
        key = merge_key(plan, shard_bytes, device)
        with DirectorySink(staging, [job.output for job in plan.jobs], shard_bytes, key) as sink:
            left = [job for job in plan.jobs if not sink.has(job.name)]
            # file after file, and in each the largest first: no thread is left alone with one at the end
            left.sort(key=lambda job: (sink.shard(job.name), -job.output.bytes))
            run(Work(plan, left, sink, shard_bytes, key, device, threads, progress))
        _write_companions(plan, staging, sink)
        check_unchanged(stamps)
    return Merged(out, tuple(sink.files), plan.bytes_written, plan, _survivals(plan, sink.evidence))


def _write_companions(plan: Plan, staging: Path, sink: DirectorySink) -> None:
    """Everything but the weights: configuration, tokenizer, recipe, card, and the lock file last."""
    _write(staging / "config.json", json.dumps(plan.config, indent=2, ensure_ascii=False) + "\n")
    copy_companions(plan.donor.directory, staging, tokenizer=plan.vocabulary is None)
    if plan.vocabulary is not None:
        write_tokenizer(plan.vocabulary, staging)
    if plan.recipe.chat_template is not None:
        directories = [checkpoint.directory for checkpoint in plan.models.values()]
        template = resolve_chat_template(plan.recipe.chat_template, directories)
        if template is not None:
            write_chat_template(staging, template)
    _write(staging / RECIPE_FILE, plan.recipe.to_yaml())
    _write(staging / "README.md", model_card(plan))
    lock = lock_data(plan, sink.evidence, sink.files)
    _write(staging / LOCK_FILE, json.dumps(lock, indent=2, ensure_ascii=False) + "\n")


def _write(file: Path, text: str) -> None:
    with writing(file):
        file.write_text(text)


def _survivals(plan: Plan, evidence: Mapping[str, Evidence]) -> tuple[Survival, ...]:
    found = ((job.output, evidence[job.name].get("survival")) for job in plan.jobs)
    return tuple(Survival.of(output, sums) for output, sums in found if isinstance(sums, list))
