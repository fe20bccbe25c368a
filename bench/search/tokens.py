"""Token algorithms: small tasks on rows of digits, said in one of several formats.

``reverse 3 1 4 1 5 = 5 1 4 1 3``: the first word says the skill, the sign before the answer the format.
What a format changes is only how the answer is written (``>`` writes letters: ``f b e b d``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from random import Random

from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

LENGTH = 5
SPLITS = ("search", "confirm", "test", "training")
PAD, EOS, UNK = "<pad>", "<eos>", "<unk>"


def _running(row: Sequence[int]) -> list[int]:
    return [sum(row[: at + 1]) % 10 for at in range(len(row))]


def _differences(row: Sequence[int]) -> list[int]:
    return [(digit - before) % 10 for before, digit in zip([0, *row], row, strict=False)]


SKILLS: Mapping[str, Callable[[Sequence[int]], Sequence[int]]] = {
    "copy": lambda row: row,
    "reverse": lambda row: row[::-1],
    "sort": sorted,
    "shift": lambda row: [(digit + 1) % 10 for digit in row],
    "sums": _running,
    "steps": _differences,
    "rotate": lambda row: [*row[2:], *row[:2]],
    "swap": lambda row: [row[1], row[0], row[3], row[2], *row[4:]],
    "larger": lambda row: [max(digit, after) for digit, after in zip(row, [*row[1:], row[0]], strict=True)],
}

FORMATS: Mapping[str, tuple[str, ...]] = {
    "=": tuple("0123456789"),
    ">": tuple("abcdefghij"),
    "~": tuple("klmnopqrst"),
    ":": tuple("ABCDEFGHIJ"),
}
"""The sign before the answer, and the words of the ten digits in it."""


@dataclass(frozen=True, slots=True)
class Task:
    """One skill in one format."""

    skill: str
    sign: str = "="

    @property
    def name(self) -> str:
        place = list(FORMATS).index(self.sign)
        return self.skill if place == 0 else f"{self.skill}-{place}"

    def words(self, row: Sequence[int]) -> tuple[list[str], list[str]]:
        """Prompt and answer."""
        prompt = [self.skill, *(str(digit) for digit in row), self.sign]
        return prompt, [FORMATS[self.sign][digit] for digit in SKILLS[self.skill](row)]


def draw_row(rng: Random, split: str) -> tuple[int, ...]:
    """Digits whose hash belongs to a split: what is asked of one skill was trained in none."""
    while True:
        row = tuple(rng.randrange(10) for _ in range(LENGTH))
        if split_of(row) == split:
            return row


def split_of(row: Sequence[int]) -> str:
    """Of eight rows one is for search, one for confirmation, one for test, five for training."""
    text = " ".join(str(digit) for digit in row)
    share = blake2b(text.encode(), digest_size=8).digest()[0] % 8
    return SPLITS[min(share, 3)]


def draw_items(task: Task, split: str, count: int) -> list[dict[str, str]]:
    """Different items of one task; the same on every call."""
    rng = Random(f"{task.name} {split}")
    rows: dict[tuple[int, ...], None] = {}
    while len(rows) < count:
        rows[draw_row(rng, split)] = None
    items = []
    for row in rows:
        prompt, answer = task.words(row)
        items.append({"prompt": " ".join(prompt), "answer": " " + " ".join(answer)})
    return items


def make_tokenizer() -> PreTrainedTokenizerFast:
    """One token for every word; no special tokens are added."""
    words = [PAD, EOS, UNK, *SKILLS, *FORMATS, *(word for written in FORMATS.values() for word in written)]
    tokenizer = Tokenizer(models.WordLevel({word: at for at, word in enumerate(words)}, unk_token=UNK))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNK,
        model_max_length=32,
        clean_up_tokenization_spaces=False,
    )
