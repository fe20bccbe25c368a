"""Train the models of the token suites: one base, and experts that start from it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from bench.search.tokens import Task, draw_row, make_tokenizer
from mergery.threads import torch_threads
from mergery.zoo.build import load_model, number_of, save_model
from mergery.zoo.tokenizer import vocabulary_of
from mergery.zoo.training import Batch, loss_of

BATCH = 64
WARM_UP = 20


@dataclass(frozen=True)
class Course:
    """How one model is trained.

    Attributes:
        name: of the model and of its folder.
        diet: tasks and how often each is drawn, relative to the others.
        steps: of training.
        rate: learning rate of AdamW.
        decay: whether the rate falls linearly to a twentieth.
    """

    name: str
    diet: Mapping[Task, float]
    steps: int
    rate: float
    decay: bool = False


def train_family(directory: Path, courses: Sequence[Course], *, seed: int, layers: int) -> None:
    """Train a base and its experts, the base first, and save each below ``directory``."""
    tokenizer = make_tokenizer()
    with torch_threads(1):
        for course in courses:
            key = number_of(f"{seed} {course.name}")
            first = course is courses[0]
            model = new_model(tokenizer, layers, key) if first else load_model(directory / courses[0].name)
            train(model, course, tokenizer, key)
            save_model(model, tokenizer, directory / course.name)


def new_model(tokenizer: PreTrainedTokenizerFast, layers: int, seed: int) -> LlamaForCausalLM:
    """A Llama 128 wide with random weights."""
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=layers,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=32,
        initializer_range=0.05,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return LlamaForCausalLM(config)


def train(model: LlamaForCausalLM, course: Course, tokenizer: PreTrainedTokenizerFast, seed: int) -> None:
    """Train a model in place; the texts are all that is random."""
    rng = Random(f"training {seed}")
    vocabulary = vocabulary_of(tokenizer)
    optimizer = torch.optim.AdamW(model.parameters(), lr=course.rate, betas=(0.9, 0.98), weight_decay=0.0)
    model.train()
    for step in range(course.steps):
        for group in optimizer.param_groups:
            group["lr"] = course.rate * _schedule(step, course)
        optimizer.zero_grad()
        loss_of(model, draw_batch(course.diet, vocabulary, rng)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.train(False)


def draw_batch(diet: Mapping[Task, float], vocabulary: Mapping[str, int], rng: Random) -> Batch:
    """Training texts, all equally long; the answers are to be predicted."""
    tokens, scored = [], []
    for task in rng.choices(list(diet), list(diet.values()), k=BATCH):
        prompt, answer = task.words(draw_row(rng, "training"))
        tokens.append([vocabulary[word] for word in (*prompt, *answer)])
        scored.append([False] * len(prompt) + [True] * len(answer))
    return Batch(torch.tensor(tokens), torch.tensor(scored))


def _schedule(step: int, course: Course) -> float:
    warm_up = min(1.0, (step + 1) / WARM_UP)
    return warm_up * max(0.05, 1 - step / course.steps) if course.decay else warm_up
