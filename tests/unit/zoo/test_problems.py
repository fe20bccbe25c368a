from random import Random

import pytest

from mergery.errors import ZooError
from mergery.zoo.language import J_WORDS, TONGUES, render, words_of_e, words_of_j
from mergery.zoo.problems import (
    TEST,
    TRAINING,
    VALIDATION,
    Fact,
    equations,
    split_of,
    story,
    story_key,
    word_problem,
)
from mergery.zoo.tasks import _SOURCES, TASKS, draw_items, draw_training

SOURCES = [f"{kind}-{tongue}" for kind in _SOURCES for tongue in TONGUES]
BACK = {said: concept for concept, said in J_WORDS.items()}


def in_concepts(text):
    return " ".join(BACK.get(word, word) for word in text.split())


def statements(text):
    """The facts of a text, whatever its language and their order."""
    told = in_concepts(text).split(" ?")[0]
    return tuple(sorted(part.strip() for part in told.split(" .") if part.strip()))


def test_no_word_means_two_things():
    words = words_of_e() + words_of_j()
    assert len(words) == len(dict.fromkeys(words))


@pytest.mark.parametrize("source", SOURCES)
def test_equal_seeds_draw_equal_texts(source):
    first, second = Random(7), Random(7)
    texts = [draw_training(source, first) for _ in range(5)]
    assert texts == [draw_training(source, second) for _ in range(5)]
    assert texts != [draw_training(source, second) for _ in range(5)]


@pytest.mark.parametrize("source", SOURCES)
def test_texts_use_known_words_and_score_something(source):
    known = words_of_e() + words_of_j()
    rng = Random(1)
    for _ in range(30):
        words, scored = draw_training(source, rng)
        assert len(words) == len(scored) <= 60
        assert any(scored)
        assert not scored[0]
        assert all(word in known for word in words)


def test_tongues():
    passage = story(Random(0), TRAINING)
    e, j = render(passage.words, "e", Random(0)), render(passage.words, "j", Random(0))
    assert [BACK.get(word, word) for word in j] == e
    assert not any(word in J_WORDS for word in j)
    crossed = render(passage.words, "x", Random(0))
    halves = {
        turn: [
            said in BACK
            for said, word in zip(crossed, passage.words, strict=True)
            if word.turn == turn and word.concept in J_WORDS
        ]
        for turn in (0, 1)
    }
    assert all(halves[0]) != all(halves[1])
    assert any(halves[0]) != any(halves[1])


def test_equations_are_right():
    words = [word.concept for word in equations(Random(3), TRAINING).words]
    for at in range(0, len(words), 6):
        start, sign, change, _, result, _ = words[at : at + 6]
        assert int(start) + (int(change) if sign == "+" else -int(change)) == int(result)


def test_word_problems_are_right():
    for seed in range(50):
        passage = word_problem(Random(seed), TRAINING)
        words = [word.concept for word in passage.words]
        amounts = {}
        for at in range(0, 20, 5):
            verb, _, thing, number, _ = words[at : at + 5]
            amounts[thing] = amounts.get(thing, 0) + int(number) * (-1 if verb in ("sells", "drops") else 1)
        asked = {words[at + 2]: int(words[at + 3]) for at in (20, 24)}
        assert asked == amounts


def test_the_content_of_a_story_has_no_order_and_no_language():
    facts = [Fact("buys", "tom", "apples", 3), Fact("has", "mia", "pears", 0)]
    assert story_key(facts) == story_key(facts[::-1])
    assert story_key(facts) != story_key([facts[0], Fact("has", "mia", "pears", 1)])
    assert story_key(facts) == "6e26a937b79b9889"


def test_splits_share_one_to_one_to_six():
    drawn = [
        split_of(story_key([Fact("has", "tom", "apples", n), Fact("has", "mia", "pears", m)]))
        for n in range(60)
        for m in range(60)
    ]
    assert drawn.count(TEST) == pytest.approx(450, abs=70)
    assert drawn.count(VALIDATION) == pytest.approx(450, abs=70)


@pytest.mark.parametrize("task", list(TASKS))
def test_items_differ_in_content_within_and_between_splits(task):
    validation, test = draw_items(task, VALIDATION, 100), draw_items(task, TEST, 200)
    assert validation == draw_items(task, VALIDATION, 100)
    prompts = [item.prompt for item in validation + test]
    assert len(dict.fromkeys(prompts)) == 300
    assert all(item.answer.startswith(" ") and " " not in item.answer[1:] for item in validation + test)
    assert len(dict.fromkeys(item.answer for item in test)) > 1


@pytest.mark.parametrize(
    ("task", "sources"),
    [("maths-j", ("problem-e", "problem-j")), ("how-j", ("story-e", "story-w", "story-x"))],
)
def test_what_is_tested_in_j_was_trained_on_in_no_language(task, sources):
    held_out = dict.fromkeys(statements(item.prompt) for item in draw_items(task, TEST, 400))
    rng = Random(5)
    trained = [statements(" ".join(draw_training(source, rng)[0])) for source in sources for _ in range(3000)]
    assert not [content for content in trained if content in held_out]
    # And the hash agrees: none of the trained stories belongs to a held-out split.
    for content in trained[:500]:
        verbs = [part.split() for part in content]
        facts = [Fact(verb, person, thing, int(number)) for verb, person, thing, number in verbs]
        assert split_of(story_key(facts)) == TRAINING


def test_the_same_content_is_held_out_in_both_languages():
    for task in ("maths", "how", "sign"):
        for item in draw_items(f"{task}-j", TEST, 50) + draw_items(f"{task}-e", TEST, 50):
            parts = [part.split() for part in statements(item.prompt)]
            facts = [Fact(verb, person, thing, int(number)) for verb, person, thing, number in parts]
            assert split_of(story_key(facts)) == TEST


def test_unknown_names_are_refused_with_the_near_miss():
    with pytest.raises(ZooError, match="did you mean maths-j"):
        draw_items("math-j", TEST, 1)
    with pytest.raises(ZooError, match="ask for fewer"):
        draw_items("count", TEST, 10**4)
