"""Train a zoo: the base first, then every other member from it, each checked and tried again where it fails.

Equal seed, size, machine and torch give equal bytes: every generator is seeded by name, members do not depend
on each other or on the order in which they are trained, and all sums are done on one thread.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging

from mergery.errors import ZooError, near_miss
from mergery.threads import torch_threads
from mergery.zoo.language import words_of_j
from mergery.zoo.manifest import Member, Zoo, items_path
from mergery.zoo.measure import accuracy, pack
from mergery.zoo.members import CURRICULUM, SHAPES, Curriculum, Plan
from mergery.zoo.problems import TEST, VALIDATION
from mergery.zoo.tasks import LANGUAGE_TASKS, TASKS, draw_items, read_items, write_items
from mergery.zoo.tokenizer import train_tokenizer, vocabulary_of
from mergery.zoo.training import embeddings_of, train

Progress = Callable[[str, float], None]

_ATTEMPTS = 4
_UNREAD_SCALE = 0.1
"""Of the start of J's rows: the base never reads them, and a larger random start is noise to its circuits."""


def build(
    directory: Path, *, seed: int = 0, size: str = "s", progress: Progress | None = None, workers: int = 2
) -> Zoo:
    """Train a whole zoo; size ``s`` takes some minutes on two cores.

    Args:
        directory: to write to; must be empty or not exist.
        seed: of everything; equal seeds give equal bytes on one machine.
        size: ``s``, ``m`` or ``l``.
        progress: called with what was finished and the fraction done.
        workers: processes that train at the same time, each on one thread.

    Returns:
        The zoo as opened from ``directory``.

    Raises:
        ZooError: if the size is unknown, the directory is not empty, or a member never learns its task.
    """
    if size not in SHAPES:
        raise ZooError(f"zoo size {size}: there is no such size", fix=near_miss(size, SHAPES))
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise ZooError(f"{directory}: is not an empty directory", fix="choose another, or remove it first")
    return build_curriculum(directory, CURRICULUM, seed=seed, size=size, progress=progress, workers=workers)


def build_curriculum(
    directory: Path,
    curriculum: Curriculum,
    *,
    seed: int,
    size: str,
    progress: Progress | None = None,
    workers: int = 1,
) -> Zoo:
    """Train the members of a curriculum; ``build`` with everything open.

    More than one worker needs the standard curriculum, since the others read it by name.
    """
    report = progress or (lambda _stage, _fraction: None)
    directory.mkdir(parents=True, exist_ok=True)
    report("writing items", 0.0)
    write_all_items(directory, curriculum, tuple(TASKS))
    base, others = curriculum.plans[0], curriculum.plans[1:]
    whole, done = sum(plan.steps for plan in curriculum.plans), base.steps
    report("training base", 0.0)
    members = {base.name: train_member(directory, base, curriculum, seed=seed, size=size)}
    report("trained base", done / whole)
    for member in _train_others(directory, others, curriculum, seed=seed, size=size, workers=workers):
        members[member.name] = member
        done += curriculum.plan(member.name).steps
        report(f"trained {member.name}", done / whole)
    ordered = tuple(members[plan.name] for plan in curriculum.plans)
    Zoo(directory, seed, ordered, size, describe_tasks(tuple(TASKS)), torch.__version__).save()
    return Zoo.open(directory)


def describe_tasks(tasks: tuple[str, ...]) -> dict[str, str]:
    """Tasks with their descriptions, for the manifest."""
    return {task: TASKS[task].description for task in tasks}


def write_all_items(directory: Path, curriculum: Curriculum, tasks: tuple[str, ...]) -> None:
    """Write the validation and test items of the given tasks."""
    (directory / "items").mkdir(parents=True, exist_ok=True)
    for task in tasks:
        for split, count in zip((VALIDATION, TEST), curriculum.items(task), strict=True):
            write_items(draw_items(task, split, count), items_path(directory, task, split))


def _train_others(
    directory: Path, plans: tuple[Plan, ...], curriculum: Curriculum, *, seed: int, size: str, workers: int
) -> Iterator[Member]:
    """Train what starts from the base, in this process or in several."""
    if workers == 1:
        for plan in plans:
            yield train_member(directory, plan, curriculum, seed=seed, size=size)
        return
    longest_first = sorted(plans, key=lambda plan: -plan.steps)
    with ThreadPoolExecutor(workers) as pool:
        running = [pool.submit(_train_apart, directory, plan.name, seed, size) for plan in longest_first]
        try:
            for finished in as_completed(running):
                yield finished.result()
        finally:
            for future in running:
                future.cancel()


def _train_apart(directory: Path, name: str, seed: int, size: str) -> Member:
    """Train one member in a process of its own."""
    command = [sys.executable, "-m", "mergery.zoo.worker", str(directory), name, str(seed), size]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode not in (0, 2):
        raise RuntimeError(f"training {name} in another process failed:\n{result.stderr}")
    told = json.loads(result.stdout.splitlines()[-1])
    if result.returncode == 2:
        raise ZooError(told["message"], fix=told["fix"])
    plan = CURRICULUM.plan(name)
    path = directory / "models" / name
    return Member(name, plan.kind, path, plan.description, told["scores"], told["steps"], told["attempt"])


def train_member(directory: Path, plan: Plan, curriculum: Curriculum, *, seed: int, size: str) -> Member:
    """Train one member, save it and score what was saved.

    Raises:
        ZooError: if no attempt reaches what the plan expects.
    """
    tokenizer = train_tokenizer()
    path = directory / "models" / plan.name
    with torch_threads(1):
        for attempt in range(_ATTEMPTS):
            model = new_model(tokenizer, size, number_of(f"{seed} {plan.name} {attempt}"))
            if plan.kind != "base":
                model = load_model(directory / "models" / "base")
            steps = _run(model, plan, curriculum, tokenizer, f"{seed} {plan.name} {attempt}")
            if steps is not None:
                save_model(model, tokenizer, path)
                scores = score_member(directory, path, plan, tokenizer)
                return Member(plan.name, plan.kind, path, plan.description, scores, steps, attempt)
    raise ZooError(
        f"zoo member {plan.name}: {_ATTEMPTS} attempts with seed {seed} did not reach {dict(plan.expects)}",
        fix="build with another seed",
    )


def _run(
    model: LlamaForCausalLM, plan: Plan, curriculum: Curriculum, tokenizer: PreTrainedTokenizerFast, key: str
) -> int | None:
    """Train through all phases; the steps taken, or nothing where the member did not learn what it should."""
    vocabulary = vocabulary_of(tokenizer)
    needed = sorted({**plan.expects, **{task: 0.0 for phase in plan.phases for task in phase.until}})
    checks = {task: pack(draw_items(task, VALIDATION, curriculum.checked), vocabulary) for task in needed}
    taken = 0
    for at, phase in enumerate(plan.phases):
        steps, reached = train(model, phase, vocabulary, number_of(f"{key} {at}"), checks)
        taken += steps
        if not reached:
            return None
    learned = all(accuracy(model, checks[task]) >= floor for task, floor in plan.expects.items())
    return taken if learned else None


def score_member(
    directory: Path, path: Path, plan: Plan, tokenizer: PreTrainedTokenizerFast
) -> Mapping[str, float]:
    """Accuracy of a saved model on the test items of every task it is tested on."""
    model, vocabulary = load_model(path), vocabulary_of(tokenizer)
    scores = {}
    for task in (*LANGUAGE_TASKS, *plan.tasks):
        items = read_items(items_path(directory, task, TEST))
        scores[task] = round(accuracy(model, pack(items, vocabulary)), 4)
    return scores


def number_of(text: str) -> int:
    """A seed from a name: the same on every machine."""
    return int.from_bytes(blake2b(text.encode(), digest_size=6).digest())


def new_model(tokenizer: PreTrainedTokenizerFast, size: str, seed: int) -> LlamaForCausalLM:
    """A Llama with random weights."""
    shape = SHAPES[size]
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden,
        intermediate_size=2 * shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.hidden // 16,
        num_key_value_heads=shape.hidden // 16,
        max_position_embeddings=128,
        initializer_range=0.05,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
        rows = [vocabulary_of(tokenizer)[word] for word in words_of_j()]
        embeddings_of(model)[rows] *= _UNREAD_SCALE
    return model


def load_model(path: Path) -> LlamaForCausalLM:
    """A saved member, in float32 for training and scoring."""
    with _no_bars():
        model: LlamaForCausalLM = LlamaForCausalLM.from_pretrained(path, dtype=torch.float32)
    model.train(False)
    return model


def save_model(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, path: Path) -> None:
    """Save a member in bfloat16, with the tokenizer beside it."""
    with _no_bars():
        for parameter in model.parameters():
            parameter.data = parameter.data.to(torch.bfloat16)
        model.config.dtype = torch.bfloat16
        model.save_pretrained(path)
    tokenizer.save_pretrained(path)


@contextmanager
def _no_bars() -> Iterator[None]:
    """Keep progress bars of transformers out of ours."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()  # type: ignore[no-untyped-call]
