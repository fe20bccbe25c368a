"""Exact match of the single answer token, computed for many items at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from mergery.zoo.tasks import Item

Packed = tuple[tuple[Tensor, Tensor], ...]
"""Prompts (items, length) and answers (items), one pair for each length of prompt: no padding needed."""


def pack(items: Sequence[Item], vocabulary: Mapping[str, int]) -> Packed:
    """Turn items into tensors, grouped by the length of the prompt."""
    lengths: dict[int, list[tuple[list[int], int]]] = {}
    for item in items:
        tokens = [vocabulary[word] for word in item.prompt.split()]
        lengths.setdefault(len(tokens), []).append((tokens, vocabulary[item.answer.strip()]))
    return tuple(
        (torch.tensor([tokens for tokens, _ in rows]), torch.tensor([answer for _, answer in rows]))
        for _, rows in sorted(lengths.items())
    )


@torch.no_grad()
def accuracy(model: LlamaForCausalLM, packed: Packed) -> float:
    """Share of items whose answer is the most likely token of the whole vocabulary, 0 to 1."""
    right = total = 0
    for prompts, answers in packed:
        logits = model(input_ids=prompts, logits_to_keep=1, use_cache=False).logits[:, -1]
        right += int((logits.argmax(-1) == answers).sum())
        total += len(answers)
    return right / total
