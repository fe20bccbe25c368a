"""The training loop of the tiny models: one phase after another, each with a diet of sources.

All on one thread: for models of this size a second one costs more than it brings, and the sums of one thread
come out the same every time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import cast

import torch
from torch import Tensor
from torch.nn import Parameter, functional
from transformers import LlamaForCausalLM

from mergery.zoo.language import words_of_j
from mergery.zoo.measure import Packed, accuracy
from mergery.zoo.tasks import check_source, draw_training

_WARM_UP = 20
_CHECK_EVERY = 50
_BETAS = (0.9, 0.98)


@dataclass(frozen=True)
class Phase:
    """A stretch of training.

    Attributes:
        steps: how many steps, at most where ``until`` is given.
        rate: learning rate of AdamW.
        diet: sources (``story-w``) and how often each is drawn, relative to the others.
        embedding_rate: factor on the rate for the token embeddings; 0 freezes them.
        body_rate: factor on the rate for everything else; 0 freezes it.
        rows: which rows of the embeddings move: ``all``, ``j`` (only J's words) or ``not-j``.
        until: tasks with the accuracy to reach on validation items; checked every 50 steps.
        decay: whether the rate falls linearly to a twentieth.
    """

    steps: int
    rate: float
    diet: Mapping[str, float]
    embedding_rate: float = 1.0
    body_rate: float = 1.0
    rows: str = "all"
    until: Mapping[str, float] = field(default_factory=dict)
    decay: bool = False

    def __post_init__(self) -> None:
        """Refuse sources that do not exist before anything is trained."""
        for source in self.diet:
            check_source(source)


@dataclass(frozen=True)
class Batch:
    """Texts as numbers.

    Attributes:
        tokens: (texts, longest), padded with 0 on the right; a causal model never looks there.
        scored: same shape; true where the token is to be predicted.
    """

    tokens: Tensor
    scored: Tensor


def draw_batch(
    diet: Mapping[str, float], vocabulary: Mapping[str, int], rng: Random, size: int = 64
) -> Batch:
    """Draw ``size`` training texts from a diet."""
    texts = [draw_training(source, rng) for source in rng.choices(list(diet), list(diet.values()), k=size)]
    longest = max(len(words) for words, _ in texts)
    tokens, scored = (
        torch.zeros(size, longest, dtype=torch.long),
        torch.zeros(size, longest, dtype=torch.bool),
    )
    for row, (words, marks) in enumerate(texts):
        tokens[row, : len(words)] = torch.tensor([vocabulary[word] for word in words])
        scored[row, : len(marks)] = torch.tensor(marks)
    return Batch(tokens, scored)


def loss_of(model: LlamaForCausalLM, batch: Batch) -> Tensor:
    """Mean cross-entropy over the scored tokens only."""
    hidden = model.model(input_ids=batch.tokens[:, :-1], use_cache=False).last_hidden_state
    scored = batch.scored[:, 1:]
    logits: Tensor = model.lm_head(hidden[scored])
    return functional.cross_entropy(logits, batch.tokens[:, 1:][scored])


def train(
    model: LlamaForCausalLM,
    phase: Phase,
    vocabulary: Mapping[str, int],
    seed: int,
    checks: Mapping[str, Packed],
) -> tuple[int, bool]:
    """Train a model in place.

    Args:
        model: in float32.
        phase: what to train on, for how long and which weights.
        vocabulary: words to token numbers.
        seed: of the texts; nothing else is random.
        checks: packed validation items of the tasks in ``phase.until``.

    Returns:
        Steps taken, and whether ``phase.until`` was reached (true where nothing is to be reached).
    """
    rng = Random(f"training {seed}")
    embeddings = embeddings_of(model)
    body = [parameter for parameter in model.parameters() if parameter is not embeddings]
    optimizer = _optimizer(phase, embeddings, body)
    moving = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    rows = _moving_rows(phase.rows, embeddings, vocabulary)
    model.train()
    with _requiring_gradients(model, moving):
        for step in range(phase.steps):
            for group in optimizer.param_groups:
                group["lr"] = phase.rate * group["factor"] * _schedule(step, phase)
            optimizer.zero_grad()
            torch.autograd.backward(loss_of(model, draw_batch(phase.diet, vocabulary, rng)))
            if rows is not None and embeddings.grad is not None:
                embeddings.grad *= rows
            torch.nn.utils.clip_grad_norm_(moving, 1.0)
            optimizer.step()
            if phase.until and (step + 1) % _CHECK_EVERY == 0 and _reached(model, phase, checks):
                return step + 1, True
    return phase.steps, not phase.until


def embeddings_of(model: LlamaForCausalLM) -> Parameter:
    """The token embeddings, (vocabulary, hidden); tied, so the output layer too."""
    return cast(Parameter, model.get_input_embeddings().weight)


def _optimizer(phase: Phase, embeddings: Parameter, body: list[Parameter]) -> torch.optim.AdamW:
    groups = [
        {"params": parameters, "factor": factor}
        for parameters, factor in (([embeddings], phase.embedding_rate), (body, phase.body_rate))
        if factor
    ]
    return torch.optim.AdamW(groups, lr=phase.rate, betas=_BETAS, weight_decay=0.0)


def _schedule(step: int, phase: Phase) -> float:
    warm_up = min(1.0, (step + 1) / _WARM_UP)
    return warm_up * max(0.05, 1 - step / phase.steps) if phase.decay else warm_up


def _moving_rows(rows: str, embeddings: Parameter, vocabulary: Mapping[str, int]) -> Tensor | None:
    """(vocabulary, 1), 1 where the row may move; none where all may."""
    if rows == "all":
        return None
    moving = torch.full((embeddings.shape[0], 1), float(rows != "j"))
    moving[[vocabulary[word] for word in words_of_j()]] = float(rows == "j")
    return moving


@contextmanager
def _requiring_gradients(model: LlamaForCausalLM, moving: list[Parameter]) -> Iterator[None]:
    """Compute gradients for the moving weights only."""
    for parameter in model.parameters():
        parameter.requires_grad_(any(parameter is other for other in moving))
    try:
        yield
    finally:
        for parameter in model.parameters():
            parameter.requires_grad_(True)
        model.zero_grad()
        model.train(False)


def _reached(model: LlamaForCausalLM, phase: Phase, checks: Mapping[str, Packed]) -> bool:
    model.train(False)
    reached = all(accuracy(model, checks[task]) >= floor for task, floor in phase.until.items())
    model.train()
    return reached
