"""Stories, word problems, equations and copies for the tiny models to learn.

Every generator takes a ``Random`` and the split it may draw from, and returns a ``Passage``: the places of
one text with a mark on those that training predicts. Statements put the verb first,
``buys tom apples 3 .``, so that the number follows the object and one lookup step finds it.

Which split a passage belongs to is decided by a hash of its content (names, objects, verbs, numbers),
whatever its language and the order of its statements: what is held out in J was never trained on in E.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from random import Random
from typing import Protocol

from mergery.zoo.language import (
    ASK,
    EQUALS,
    GAINS,
    HAS,
    HOW,
    LARGEST_CHANGE,
    LARGEST_NUMBER,
    LOSES,
    MINUS,
    NAMES,
    NUMBERS,
    OBJECTS,
    PLUS,
    SIGN,
    STOP,
    VERBS,
    WHO,
    Word,
)

TRAINING, VALIDATION, TEST = "training", "validation", "test"
_SHARES = 8
"""Of eight contents one is for test, one for validation, six for training."""


@dataclass(frozen=True, slots=True)
class Passage:
    """One text to train on or, cut at a scored place, to be asked about.

    Attributes:
        words: its places, in concepts.
        content: hash of what it is about; empty where nothing is held out.
    """

    words: tuple[Word, ...]
    content: str = ""


class Generator(Protocol):
    """Draws a passage whose content belongs to a split."""

    def __call__(self, rng: Random, split: str, /) -> Passage:
        """Draw one passage."""


@dataclass(frozen=True, slots=True, order=True)
class Fact:
    """One statement: who does what, with which objects and how many."""

    verb: str
    person: str
    thing: str
    number: int

    def words(self) -> list[Word]:
        """``verb person object number .``."""
        return plain(self.verb, self.person, self.thing, str(self.number), STOP)


def plain(*concepts: str, turn: int = 0) -> list[Word]:
    """Places that are read, not predicted."""
    return [Word(concept, turn=turn) for concept in concepts]


def asked(*concepts: str, answer: str) -> list[Word]:
    """``? concepts answer`` with the answer to predict."""
    return [*plain(ASK, *concepts, turn=1), Word(answer, scored=True, turn=1)]


def content_key(content: Sequence[str]) -> str:
    """Hash of a content, written in concepts: equal in every language, on every machine, in every run."""
    return blake2b(" ".join(content).encode(), digest_size=8).hexdigest()


def story_key(facts: Sequence[Fact]) -> str:
    """Hash of a story's facts, whatever the order of its statements."""
    return content_key([f"{fact.verb},{fact.person},{fact.thing},{fact.number}" for fact in sorted(facts)])


def split_of(key: str) -> str:
    """The split that a content belongs to: training, validation or test."""
    share = int(key, 16) % _SHARES
    return TEST if share == 0 else VALIDATION if share == 1 else TRAINING


def draw_story(rng: Random, split: str, verbs: Sequence[str] = VERBS) -> tuple[list[Fact], str]:
    """Two or three statements about distinct persons and objects, and the hash of what they say."""
    while True:
        count = rng.choice((2, 3, 3))
        persons, things = rng.sample(NAMES, count), rng.sample(OBJECTS, count)
        facts = [
            Fact(rng.choice(verbs), person, thing, rng.randint(0, LARGEST_NUMBER))
            for person, thing in zip(persons, things, strict=True)
        ]
        key = story_key(facts)
        if split_of(key) == split:
            return facts, key


def question(kind: str, fact: Fact) -> list[Word]:
    """``? how object`` number, ``? sign object`` sign, or ``? who object`` person."""
    if kind == HOW:
        return asked(HOW, fact.thing, answer=str(fact.number))
    if kind == WHO:
        return asked(WHO, fact.thing, answer=fact.person)
    return asked(SIGN, fact.thing, answer=sign_of(fact))


def sign_of(fact: Fact) -> str:
    """``+`` where there came to be more, ``-`` where fewer, ``=`` where it only says what there is."""
    return PLUS if fact.verb in GAINS else MINUS if fact.verb in LOSES else EQUALS


def story(rng: Random, split: str, kinds: Sequence[str] = (HOW, SIGN, WHO), most: int = 5) -> Passage:
    """A story and up to ``most`` questions: many scored places in one passage make lookup form."""
    facts, key = draw_story(rng, split)
    choices = [(kind, fact) for kind in kinds for fact in facts]
    words = [word for fact in facts for word in fact.words()]
    for kind, fact in rng.sample(choices, min(most, len(choices))):
        words += question(kind, fact)
    return Passage(tuple(words), key)


def draw_sum(rng: Random) -> tuple[int, str, int, int]:
    """``start, sign, change, result`` with the result among the known numbers."""
    sign, change = rng.choice((PLUS, MINUS)), rng.randint(1, LARGEST_CHANGE)
    if sign == PLUS:
        start = rng.randint(0, LARGEST_NUMBER - change)
        return start, sign, change, start + change
    start = rng.randint(change, LARGEST_NUMBER)
    return start, sign, change, start - change


def word_problem(rng: Random, split: str, most: int = 2) -> Passage:
    """Who had what and what changed, statements shuffled; then ``? how object`` with ``a ± b`` to predict."""
    while True:
        facts, questions = [], []
        for person, thing in zip(rng.sample(NAMES, 2), rng.sample(OBJECTS, 2), strict=True):
            start, sign, change, result = draw_sum(rng)
            verb = rng.choice(GAINS if sign == PLUS else LOSES)
            facts += [Fact(HAS, person, thing, start), Fact(verb, person, thing, change)]
            questions.append(asked(HOW, thing, answer=str(result)))
        key = story_key(facts)
        if split_of(key) == split:
            break
    rng.shuffle(facts)
    rng.shuffle(questions)
    words = [word for fact in facts for word in fact.words()]
    return Passage((*words, *(word for asks in questions[:most] for word in asks)), key)


def equations(rng: Random, split: str, count: int = 6) -> Passage:
    """Sums in a row, ``a op b = c .``; there are too few of them to hold any out."""
    del split
    words: list[Word] = []
    for _ in range(count):
        start, sign, change, result = draw_sum(rng)
        words += [*plain(str(start), sign, str(change), EQUALS), Word(str(result), scored=True), Word(STOP)]
    return Passage(tuple(words))


def copies(rng: Random, split: str) -> Passage:
    """Chunks of random words, ``=``, the same chunks in another order, twice: teaches lookup by context."""
    del split
    chosen = rng.sample((*NAMES, *OBJECTS, *VERBS, *NUMBERS), 10)
    chunks = [chosen[0:3], chosen[3:5], chosen[5:8], chosen[8:10]]
    words = [Word(concept) for chunk in chunks for concept in chunk]
    for _ in range(2):
        rng.shuffle(chunks)
        words.append(Word(EQUALS))
        # The first word of a chunk cannot be known; the others follow from the chunk's first showing.
        words += [Word(concept, scored=at > 0) for chunk in chunks for at, concept in enumerate(chunk)]
    return Passage(tuple(words))
