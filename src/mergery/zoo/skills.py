"""Small tasks that the base cannot do, one for each skill expert.

Each passage repeats its task several times, for the same reason as in stories: one scored place in a
passage trains too slowly. A task's command word is one that the base never reads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from mergery.zoo.language import ASK, EQUALS, HAS, HOW, LARGEST_NUMBER, NAMES, NUMBERS, OBJECTS, STOP, Word
from mergery.zoo.problems import Passage, asked, content_key, draw_story, plain, sign_of, split_of


def _draw(rng: Random, split: str, make: Callable[[Random], list[str]]) -> tuple[list[str], str]:
    """Draw a content until it belongs to the split."""
    while True:
        content = make(rng)
        key = content_key(content)
        if split_of(key) == split:
            return content, key


def count(rng: Random, split: str, most: int = 3) -> Passage:
    """A row of objects, then ``? count object`` with how often it stood there."""

    def row(rng: Random) -> list[str]:
        kinds = rng.sample(OBJECTS, 3)
        return [rng.choice(kinds) for _ in range(7)]

    content, key = _draw(rng, split, row)
    words = plain(*content, STOP)
    for thing in rng.sample(OBJECTS, most):
        words += asked("count", thing, answer=str(content.count(thing)))
    return Passage(tuple(words), key)


def before(rng: Random, split: str, most: int = 4) -> Passage:
    """A row of distinct words, then ``? before word`` with the word that stood before it."""
    content, key = _draw(rng, split, lambda rng: rng.sample((*NAMES, *OBJECTS), 6))
    words = plain(*content, STOP)
    for at in rng.sample(range(1, 6), most):
        words += asked("before", content[at], answer=content[at - 1])
    return Passage(tuple(words), key)


def _rows(
    rng: Random,
    split: str,
    rows: int,
    command: str,
    make: Callable[[Random], list[str]],
    answer: Callable[[Sequence[str]], list[str]],
) -> Passage:
    """``rows`` times ``? command content = answer``, every word of the answer to predict."""
    words: list[Word] = []
    key = ""
    for _ in range(rows):
        content, key = _draw(rng, split, make)
        words += plain(ASK, command, *content, EQUALS)
        words += [Word(concept, scored=True) for concept in answer(content)]
    return Passage(tuple(words), key)


def biggest(rng: Random, split: str, rows: int = 4) -> Passage:
    """``? biggest 7 3 9 4 = 9``."""
    make = lambda rng: rng.sample(NUMBERS, 4)  # noqa: E731
    return _rows(rng, split, rows, "biggest", make, lambda content: [max(content, key=int)])


def sort(rng: Random, split: str, rows: int = 3) -> Passage:
    """``? sort 7 3 9 4 = 3 4 7 9``."""
    make = lambda rng: rng.sample(NUMBERS, 4)  # noqa: E731
    return _rows(rng, split, rows, "sort", make, lambda content: sorted(content, key=int))


def reverse(rng: Random, split: str, rows: int = 3) -> Passage:
    """``? reverse tom 3 pears mia = mia pears 3 tom``."""
    make = lambda rng: rng.sample((*NAMES, *OBJECTS, *NUMBERS), 4)  # noqa: E731
    return _rows(rng, split, rows, "reverse", make, lambda content: list(reversed(content)))


def same(rng: Random, split: str, most: int = 3) -> Passage:
    """A story, then ``? same object object``: did both get more, both fewer, or both stay?"""
    facts, key = draw_story(rng, split)
    pairs = [(first, second) for first in facts for second in facts if first.thing != second.thing]
    words = [word for fact in facts for word in fact.words()]
    for first, second in rng.sample(pairs, min(most, len(pairs))):
        agree = sign_of(first) == sign_of(second)
        words += asked("same", first.thing, second.thing, answer="yes" if agree else "no")
    return Passage(tuple(words), key)


def total(rng: Random, split: str, most: int = 3) -> Passage:
    """A story of who has what, then ``? total object object`` with the sum of two numbers."""
    while True:
        facts, key = draw_story(rng, split, verbs=(HAS,))
        pairs = [
            (first, second)
            for first in facts
            for second in facts
            if first.thing != second.thing and first.number + second.number <= LARGEST_NUMBER
        ]
        if pairs:
            break
    words = [word for fact in facts for word in fact.words()]
    for first, second in rng.sample(pairs, min(most, len(pairs))):
        words += asked("total", first.thing, second.thing, answer=str(first.number + second.number))
    return Passage(tuple(words), key)


def unknown(rng: Random, split: str, most: int = 4) -> Passage:
    """A story, then ``? how object``: the number, or ``unknown`` where the story does not say."""
    facts, key = draw_story(rng, split)
    told = {fact.thing: str(fact.number) for fact in facts}
    # Half of the questions are about what the story does not mention, so that neither answer wins the test.
    untold = rng.sample([thing for thing in OBJECTS if thing not in told], 2)
    things = rng.sample([*rng.sample(list(told), 2), *untold], most)
    words = [word for fact in facts for word in fact.words()]
    for thing in things:
        words += asked(HOW, thing, answer=told.get(thing, "unknown"))
    return Passage(tuple(words), key)
