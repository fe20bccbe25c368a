"""One forward pass over prompts and gold answers: what every answer token got.

This is the search's hot loop. Everything that does not depend on the weights is done once, in
:func:`prepare`: tokens, batches, positions. Items are sorted by length and padded on the right, which under
causal attention leaves every answer position untouched, so no attention mask is needed (torch's fused
causal kernel runs); a row is padded with its own last token, so that no padding token is ever seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from mergery.errors import DataError
from mergery.evaluate.items import Item, Items
from mergery.threads import sensible_threads, torch_threads

__all__ = ["AnswerOutcomes", "Prepared", "answer_outcomes", "encode", "prepare"]

CPU_BATCH_TOKENS = 1024
"""Tokens a batch on a CPU: activations of small models then stay in cache (128 wide, 3 layers: 0.18 s for
384 items at 1024, 0.20 s at 2048, 0.31 s in one batch), and large ones are bound by arithmetic anyway."""

GPU_BATCH_TOKENS = 16384
"""Tokens a batch on an accelerator, where large batches hide the cost of launching kernels."""


@dataclass(frozen=True)
class _Batch:
    """Rows padded to one length T; N answer tokens in all.

    Attributes:
        ids: ``(B, T)`` int64 input tokens; the last answer token is not fed.
        kept: ``(P,)`` int64 positions at which any row predicts an answer token.
        picked: ``(N,)`` int64 indices into the flattened ``(B * P)`` logits, rows in order.
        gold: ``(N,)`` int64 answer tokens.
    """

    ids: Tensor
    kept: Tensor
    picked: Tensor
    gold: Tensor

    def to(self, device: torch.device) -> _Batch:
        return _Batch(*(part.to(device) for part in (self.ids, self.kept, self.picked, self.gold)))


@dataclass(frozen=True)
class Prepared:
    """Items ready for every model with the same tokenizer.

    Attributes:
        hashes: the items' hashes, in item order.
        rows: per item its tokens and how many of them, at the end, are the answer's; in item order.
        order: item indices from the shortest row to the longest.
        packed: batches made so far, by device and budget.
    """

    hashes: tuple[str, ...]
    rows: tuple[tuple[tuple[int, ...], int], ...]
    order: tuple[int, ...]
    packed: dict[tuple[str, int], tuple[_Batch, ...]] = field(default_factory=dict, compare=False, repr=False)

    def batches(self, device: torch.device, budget: int) -> tuple[_Batch, ...]:
        """Batches of at most ``budget`` padded tokens, made once for each device and budget."""
        key = (str(device), budget)
        if key not in self.packed:
            rows = [self.rows[index] for index in self.order]
            self.packed[key] = tuple(_batch(group).to(device) for group in _groups(rows, budget))
        return self.packed[key]


@dataclass(frozen=True)
class AnswerOutcomes:
    """What a model made of the gold answers, per item in item order.

    Attributes:
        likelihood: ``(items,)`` float32 mean log-probability of the answer's tokens, nats.
        exact_match: ``(items,)`` float32, 1 if every answer token is the arg max, else 0.

    Both are NaN where the model's logits are not finite.
    """

    likelihood: NDArray[np.float32]
    exact_match: NDArray[np.float32]


def encode(tokenizer: PreTrainedTokenizerBase, item: Item) -> tuple[tuple[int, ...], int]:
    """Tokens of prompt and answer, and how many of them are the answer's.

    As lm-eval does it: spaces at the end of the prompt count as the answer's, prompt and answer are
    tokenised together, and the answer's tokens are those after as many as the prompt has alone. A
    beginning-of-text token is put in front if the tokenizer puts one by itself; nothing is put at the end.
    """
    prompt = item.prompt.rstrip()
    answer = item.prompt[len(prompt) :] + item.answer
    alone = tokenizer(prompt, add_special_tokens=False)["input_ids"]
    both = tokenizer(prompt + answer, add_special_tokens=False)["input_ids"]
    start = _opening(tokenizer, prompt, alone)
    return (*start, *both), len(both) - len(alone)


def prepare(tokenizer: PreTrainedTokenizerBase, items: Items, *, context: int | None = None) -> Prepared:
    """Tokenise items and sort them by length.

    Args:
        tokenizer: of the models to come.
        items: prompts and answers.
        context: the longest text the models take, in tokens.

    Raises:
        DataError: if an answer has no token of its own, nothing stands before it, or the text is too long.
    """
    rows = tuple(encode(tokenizer, item) for item in items)
    for item, (tokens, answer) in zip(items, rows, strict=True):
        where = f"{items.name}:{item.line}"
        if answer < 1:
            raise DataError(
                f"{where}: the answer {item.answer!r} has no token of its own after the prompt",
                fix="let the answer begin with its space or punctuation, as the text would",
            )
        if len(tokens) == answer:
            raise DataError(f"{where}: the prompt has no tokens", fix="write a longer prompt")
        if context is not None and len(tokens) > context:
            raise DataError(
                f"{where}: {len(tokens)} tokens, and the model takes {context}", fix="shorten the prompt"
            )
    order = sorted(range(len(rows)), key=lambda index: (len(rows[index][0]), rows[index][1], index))
    return Prepared(items.hashes, rows, tuple(order))


@torch.inference_mode()
def answer_outcomes(
    model: PreTrainedModel,
    prepared: Prepared,
    *,
    batch_tokens: int | None = None,
    threads: int | None = None,
) -> AnswerOutcomes:
    """Run the teacher-forced pass.

    Args:
        model: a causal language model in evaluation mode, on any device.
        prepared: items in its tokenizer's tokens.
        batch_tokens: padded tokens a batch; by default what suits the model's device.
        threads: CPU threads; by default :func:`~mergery.threads.sensible_threads`.
    """
    device = model.device
    budget = batch_tokens or (CPU_BATCH_TOKENS if device.type == "cpu" else GPU_BATCH_TOKENS)
    chances: list[Tensor] = []
    firsts: list[Tensor] = []
    with torch_threads(threads or sensible_threads(model.num_parameters())):
        for batch in prepared.batches(device, budget):
            logits = model(input_ids=batch.ids, use_cache=False, logits_to_keep=batch.kept).logits
            rows = logits.flatten(0, 1)[batch.picked].float()  # (N, vocabulary)
            gold = rows.gather(1, batch.gold[:, None])[:, 0]
            chances.append(gold - rows.logsumexp(1))
            firsts.append(rows.argmax(1) == batch.gold)
        return _per_item(torch.cat(chances).cpu().numpy(), torch.cat(firsts).cpu().numpy(), prepared)


def _opening(tokenizer: PreTrainedTokenizerBase, text: str, tokens: Sequence[int]) -> list[int]:
    """The special tokens that the tokenizer puts before a text by itself."""
    if not tokens:
        return []
    whole = tokenizer(text)["input_ids"]
    extra = len(whole) - len(tokens)
    for start in range(extra + 1):
        if list(whole[start : start + len(tokens)]) == list(tokens):
            return list(whole[:start])
    return []


def _groups(
    rows: Sequence[tuple[tuple[int, ...], int]], budget: int
) -> Iterator[Sequence[tuple[tuple[int, ...], int]]]:
    """Consecutive rows, sorted by length, whose padded size stays within the budget."""
    first = 0
    for index, (tokens, _) in enumerate(rows):
        if index > first and (index - first + 1) * len(tokens) > budget:
            yield rows[first:index]
            first = index
    yield rows[first:]


def _batch(rows: Sequence[tuple[tuple[int, ...], int]]) -> _Batch:
    width = max(len(tokens) for tokens, _ in rows) - 1
    ids = [tokens[:-1] + (tokens[-1],) * (width - len(tokens) + 1) for tokens, _ in rows]
    # the token at position p is predicted at position p - 1
    spots = [range(len(tokens) - answer - 1, len(tokens) - 1) for tokens, answer in rows]
    kept = sorted(dict.fromkeys(spot for spread in spots for spot in spread))
    column = {spot: place for place, spot in enumerate(kept)}
    picked = [row * len(kept) + column[spot] for row, spread in enumerate(spots) for spot in spread]
    gold = [token for tokens, answer in rows for token in tokens[-answer:]]
    return _Batch(*(torch.tensor(part, dtype=torch.long) for part in (ids, kept, picked, gold)))


def _per_item(chances: NDArray[np.float32], firsts: NDArray[np.bool_], prepared: Prepared) -> AnswerOutcomes:
    """Fold token results, in batch order, into item results in item order."""
    counts = np.array([prepared.rows[index][1] for index in prepared.order])
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    means = np.add.reduceat(chances.astype(np.float64), starts) / counts
    exact = np.logical_and.reduceat(firsts, starts).astype(np.float32)
    exact[~np.isfinite(means)] = np.nan
    means[~np.isfinite(means)] = np.nan
    order = np.array(prepared.order)
    likelihood = np.empty(len(order), dtype=np.float32)
    exact_match = np.empty(len(order), dtype=np.float32)
    likelihood[order], exact_match[order] = means, exact
    return AnswerOutcomes(likelihood, exact_match)
