"""Models and items for what a search costs: Llamas of 30 million parameters, and a merge to be found.

The weights are random, and so are the experts' differences from the base. Items are prompts of random words;
their answers are what a merge of the experts writes. So a search has something to find, candidates near that
merge are right more often than others, and every answer is one that greedy decoding writes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from random import Random

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from mergery import Recipe
from mergery.engine import LiveMerge

UNKNOWN = "<unk>"
SPLITS = {"search": 400, "confirm": 100, "test": 50}
PLANTED = (0.8, 0.5, 0.7, 0.4)
"""Weights of the merge that the answers are from, one an expert, in turn."""

HEAD = 8.0
"""What the head's random weights are multiplied by: else every word is as likely as any other."""

CHANGE = 0.01
"""Standard deviation of an expert's differences, relative to that of the base's weights."""


@dataclass(frozen=True)
class Shape:
    """Sizes of a Llama and of its items.

    Attributes:
        hidden: width of the residual stream; heads are 64 wide.
        layers: how many.
        words: of the vocabulary.
        prompts: least and most words of a prompt.
        answers: of an answer.
    """

    hidden: int = 448
    layers: int = 10
    words: int = 8000
    prompts: tuple[int, int] = (60, 120)
    answers: tuple[int, int] = (5, 20)

    @property
    def config(self) -> LlamaConfig:
        """Of transformers' model."""
        heads = self.hidden // 64
        return LlamaConfig(
            vocab_size=self.words,
            hidden_size=self.hidden,
            intermediate_size=round(2.7 * self.hidden / 64) * 64,
            num_hidden_layers=self.layers,
            num_attention_heads=heads,
            num_key_value_heads=heads,
            max_position_embeddings=256,
            initializer_range=0.05,
            tie_word_embeddings=False,
            bos_token_id=None,
            eos_token_id=None,
            pad_token_id=None,
        )


@dataclass(frozen=True)
class Family:
    """A base, its experts, and items by split."""

    base: Path
    experts: tuple[Path, ...]
    items: Path

    def file(self, split: str) -> Path:
        """The JSONL file of one split's items."""
        return self.items / f"{split}.jsonl"


def make_family(
    folder: Path, shape: Shape, experts: int = 4, *, splits: Mapping[str, int] = SPLITS
) -> Family:
    """Make a family, or find that of an earlier run."""
    paths = [folder / f"expert-{number}" for number in range(1, experts + 1)]
    family = Family(folder / "base", tuple(paths), folder / "items")
    finished = folder / "finished"
    if not finished.exists():
        _write_models(family, shape)
        _write_items(family, shape, splits)
        finished.touch()
    return family


def planted(family: Family) -> Recipe:
    """The merge whose answers are right."""
    models = [
        {"model": str(path), "parameters": {"weight": weight}}
        for path, weight in zip(family.experts, cycle(PLANTED), strict=False)
    ]
    return Recipe.from_dict(
        {"merge_method": "task_arithmetic", "base_model": str(family.base), "models": models}
    )


def _write_models(family: Family, shape: Shape) -> None:
    tokenizer = make_tokenizer(shape.words)
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(shape.config)
    model.lm_head.weight.data *= HEAD
    base = {name: weight.clone() for name, weight in model.state_dict().items()}
    for path in (family.base, *family.experts):
        for name, weight in model.state_dict().items():
            if path != family.base and weight.ndim > 1:
                noise = torch.randn(weight.shape, generator=generator)
                weight.copy_(base[name] + CHANGE * base[name].std() * noise)
        model.to(torch.bfloat16).save_pretrained(path)
        model.float()
        tokenizer.save_pretrained(path)


def _write_items(family: Family, shape: Shape, splits: Mapping[str, int]) -> None:
    """Draw prompts, and have the planted merge answer them."""
    live = LiveMerge(planted(family))
    model = live.build(planted(family))
    random = Random(0)
    family.items.mkdir(exist_ok=True)
    for split, count in splits.items():
        lines = []
        for _ in range(count):
            prompt = random.choices(range(1, shape.words), k=random.randint(*shape.prompts))
            answer = _greedy(model, prompt, random.randint(*shape.answers))
            lines.append(json.dumps({"prompt": _text(prompt), "answer": f" {_text(answer)}"}))
        family.file(split).write_text("\n".join(lines) + "\n")


def make_tokenizer(words: int) -> PreTrainedTokenizerFast:
    """One token for every word; no special tokens are added."""
    vocabulary = {UNKNOWN: 0, **{_text([number]): number for number in range(1, words)}}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token=UNKNOWN, clean_up_tokenization_spaces=False
    )


def _greedy(model: PreTrainedModel, prompt: Sequence[int], length: int) -> Sequence[int]:
    """The next tokens, each the likeliest."""
    with torch.inference_mode():
        written = model.generate(torch.tensor([prompt]), max_new_tokens=length, do_sample=False)
    return written[0, len(prompt) :].tolist()


def _text(tokens: Sequence[int]) -> str:
    return " ".join(f"w{token}" for token in tokens)
