"""How the probability of the gold answers changes with the weights: for searches that follow gradients.

The share of items answered right is a staircase: flat almost everywhere. The mean probability ``p`` of the
whole answer is what that share would be if answers were drawn at random from the model, and it is smooth; but
it is nearly flat, too, where answers are far from right, and descents end there. The likelihood spends itself
on hopeless items. Between them lies ``p ** q``, generalised cross entropy up to a factor (Zhang and Sabuncu,
arXiv:1805.07836, equation 6): an item's gradient is that of its log-probability, times ``p ** q``.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel

from mergery.evaluate.teacher_forced import Prepared
from mergery.threads import sensible_threads, torch_threads

__all__ = ["backward"]

_CPU_TOKENS, _GPU_TOKENS = 1024, 8192
"""Tokens a batch; the backward pass holds every activation of one."""


def backward(
    model: PreTrainedModel, prepared: Prepared, weights: NDArray[np.float64], *, power: float | None
) -> float:
    """Add the gradient of a loss to the ``grad`` of the model's parameters.

    Args:
        model: a causal language model whose parameters require gradients.
        prepared: n items in its tokenizer's tokens.
        weights: ``(n,)`` what each item counts; the loss is minus their weighted sum.
        power: items are scored by the whole answer's probability to this power; by its mean
            log-probability a token if it is ``None``.

    Returns:
        The loss: minus the weighted sum of the items' scores.
    """
    device, loss = model.device, 0.0
    budget = _CPU_TOKENS if device.type == "cpu" else _GPU_TOKENS
    order = np.array(prepared.order)
    counts = np.array([prepared.rows[index][1] for index in order])
    first = 0
    with torch_threads(sensible_threads(model.num_parameters())), torch.enable_grad():
        for batch in prepared.batches(device, budget):
            rows = slice(first, first + len(batch.ids))
            first = rows.stop
            logits = model(input_ids=batch.ids, use_cache=False, logits_to_keep=batch.kept).logits
            scores = logits.flatten(0, 1)[batch.picked].float()  # (N, vocabulary)
            chances = scores.gather(1, batch.gold[:, None])[:, 0] - scores.logsumexp(1)
            per_item = _summed(chances, counts[rows])
            length = torch.as_tensor(counts[rows], device=device)
            score = per_item / length if power is None else (power * per_item).exp()
            share = torch.as_tensor(weights[order[rows]], dtype=torch.float32, device=device)
            term = -(score * share).sum()
            torch.autograd.backward(term)
            loss += float(term.detach())
    return loss


def _summed(chances: Tensor, counts: NDArray[np.intp]) -> Tensor:
    """Sums over each item's answer tokens."""
    owner = torch.repeat_interleave(torch.as_tensor(counts, device=chances.device))
    return torch.zeros(len(counts), device=chances.device).index_add(0, owner, chances)
