"""The two languages the tiny models speak: E and J.

E is a handful of English words. J has the same templates with another word for every content and function
word (romanised Japanese, each exactly one token); digits, signs and punctuation are shared, as between real
languages. A *concept* is written as its E word, so a text in E is its own list of concepts.

Four tongues render concepts as words:

- ``e`` and ``j``: everything in one language.
- ``w``: each word E or J with equal chance, answers too (code-switching).
- ``x``: story in one language, questions about it in the other (crossed).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

NAMES = ("tom", "mia", "sam", "ann", "leo")
OBJECTS = ("apples", "pears", "books", "coins", "stones")
GAINS = ("buys", "finds")
LOSES = ("sells", "drops")
HAS = "has"
VERBS = (*GAINS, *LOSES, HAS)
HOW, SIGN, WHO = "how", "sign", "who"

LARGEST_NUMBER = 12
LARGEST_CHANGE = 6
NUMBERS = tuple(str(n) for n in range(LARGEST_NUMBER + 1))
PLUS, MINUS, EQUALS, STOP, ASK = "+", "-", "=", ".", "?"
MARKS = (PLUS, MINUS, EQUALS, STOP, ASK)

J_WORDS: dict[str, str] = {
    "tom": "taro",
    "mia": "hana",
    "sam": "ken",
    "ann": "yuki",
    "leo": "sora",
    "apples": "ringo",
    "pears": "nashi",
    "books": "hon",
    "coins": "kozeni",
    "stones": "ishi",
    "buys": "kau",
    "finds": "hirou",
    "sells": "uru",
    "drops": "otosu",
    "has": "motsu",
    "how": "ikutsu",
    "sign": "fugou",
    "who": "dare",
}
"""The J word of every concept that has one; what is missing here is shared by both languages."""

COMMANDS = ("count", "biggest", "sort", "reverse", "before", "same", "total", "yes", "no", "unknown")
"""Words of the skills. The base never reads them, so each skill expert learns its own from nothing."""

TONGUES = ("e", "j", "w", "x")


@dataclass(frozen=True, slots=True)
class Word:
    """One place in a passage, before a language is chosen.

    Attributes:
        concept: the E word, number or mark.
        scored: whether training asks the model to predict this place.
        turn: 0 in the story, 1 in the questions; the crossed tongue changes language between the two.
    """

    concept: str
    scored: bool = False
    turn: int = 0


def render(words: Sequence[Word], tongue: str, rng: Random) -> list[str]:
    """Say concepts in a tongue: ``e``, ``j``, ``w`` (code-switched) or ``x`` (crossed)."""
    if tongue == "e":
        return [word.concept for word in words]
    if tongue == "j":
        return [in_j(word.concept) for word in words]
    if tongue == "w":
        return [in_j(word.concept) if rng.random() < 0.5 else word.concept for word in words]
    j_turn = int(rng.random() < 0.5)
    return [in_j(word.concept) if word.turn == j_turn else word.concept for word in words]


def in_j(concept: str) -> str:
    """The J word of a concept, or the concept itself where both languages share it."""
    return J_WORDS.get(concept, concept)


def words_of_e() -> tuple[str, ...]:
    """Every word, number and mark except those of J, in a fixed order."""
    return (*MARKS, *NUMBERS, *NAMES, *OBJECTS, *VERBS, HOW, SIGN, WHO, *COMMANDS)


def words_of_j() -> tuple[str, ...]:
    """The words that only J has, in a fixed order."""
    return tuple(J_WORDS.values())
