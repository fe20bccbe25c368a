"""Which rows go where. The expected numbers are counted by hand."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

import numpy as np
import pytest
from tokenizers import models

from mergery.checkpoint import ModelRef
from mergery.errors import CheckpointError, RecipeError
from mergery.tokenizer import (
    AVERAGE,
    MIXED,
    ZERO,
    ModelToken,
    TokenizerSettings,
    TokenSettings,
    Vocabulary,
    Zero,
    build_vocabulary,
)

from .conftest import bpe_model, special


def build(
    settings: TokenizerSettings, base: ModelRef | None, sizes: dict[ModelRef, int], **more
) -> Vocabulary:
    return build_vocabulary(settings, {ref: Path(ref.path) for ref in sizes}, base, sizes, **more)


def rows_of(vocabulary: Vocabulary, model: ModelRef) -> list[tuple[int, int]]:
    found = vocabulary.maps[model]
    return list(zip(found.donor.tolist(), found.row.tolist(), strict=True))


UNION, BASE = TokenizerSettings("union"), TokenizerSettings("base")


def test_equal_tokenizers_give_identities(words):
    a, b = words("a", "<unk> cat dog"), words("b", "<unk> cat dog")
    found = build(UNION, a, {a: 3, b: 3})
    assert found.tokens == {"<unk>": 0, "cat": 1, "dog": 2}
    assert found.rows == 3
    assert found.identity
    assert found.definition is None
    assert found.notes == ()
    assert rows_of(found, a) == [(0, 0), (0, 1), (0, 2)]
    assert rows_of(found, b) == [(1, 0), (1, 1), (1, 2)]


def test_the_base_tokenizer_reorders_and_fills_the_others(words):
    a, b = words("a", "<unk> cat dog cow"), words("b", "<unk> dog owl cat")
    found = build(BASE, a, {a: 4, b: 4})
    assert list(found.tokens) == ["<unk>", "cat", "dog", "cow"]
    assert rows_of(found, b) == [(1, 0), (1, 3), (1, 1), (0, 3)]  # cow is the base's own
    assert found.maps[a].identity
    assert not found.maps[b].identity
    assert not found.identity
    assert found.definition is None


def test_one_model_gives_the_vocabulary(words):
    a, b = words("a", "<unk> cat dog"), words("b", "<unk> owl cat elk")
    found = build(TokenizerSettings(b), a, {a: 3, b: 4})
    assert found.donor == b
    assert found.tokens == {"<unk>": 0, "owl": 1, "cat": 2, "elk": 3}
    assert rows_of(found, a) == [(0, 0), (1, 1), (0, 1), (1, 3)]
    assert found.maps[b].identity


def test_a_union_in_listed_order(words):
    b = words("b", "<unk> owl cat elk", special("<im>"))  # listed first, but not the base
    a = words("a", "<unk> cat dog", special("<pad>"))
    c = words("c", "<unk> elk ape dog", special("<end>"), special("<im>"))
    found = build(UNION, a, {b: 5, a: 4, c: 6})
    # the base's, then other words by model and row, then other added tokens
    assert list(found.tokens) == ["<unk>", "cat", "dog", "<pad>", "owl", "elk", "ape", "<im>", "<end>"]
    assert list(found.tokens.values()) == list(range(9))
    assert found.models == (b, a, c)
    assert rows_of(found, a) == [
        *((1, 0), (1, 1), (1, 2), (1, 3)),
        (0, 1),  # owl: only b has it
        (MIXED, -1),  # elk: b and c
        (2, 2),  # ape: only c
        (MIXED, -1),  # <im>: b and c
        (2, 4),
    ]
    assert found.maps[a].mixed == {5: ((0, 3), (2, 1)), 7: ((0, 4), (2, 5))}
    assert rows_of(found, b) == [
        *((0, 0), (0, 2), (1, 2), (1, 3), (0, 1), (0, 3), (2, 2), (0, 4), (2, 4)),
    ]
    assert found.maps[b].mixed == {}
    # cat is in a and b: the base's row
    assert rows_of(found, c) == [(2, 0), (1, 1), (2, 3), (1, 3), (0, 1), (2, 1), (2, 2), (2, 5), (2, 4)]


def test_without_a_base_missing_rows_are_means(words):
    a, b, c = words("a", "<unk> cat"), words("b", "cat <unk>"), words("c", "<unk> dog")
    found = build(UNION, None, {a: 2, b: 2, c: 2})
    assert found.donor == a
    assert rows_of(found, c) == [(2, 0), (MIXED, -1), (2, 1)]
    assert found.maps[c].mixed == {1: ((0, 1), (1, 0))}


def test_what_the_recipe_says_of_single_tokens(words):
    a, b = words("a", "<unk> cat dog cow"), words("b", "<unk> cat owl")
    tokens = {
        "cow": TokenSettings(Zero()),  # b lacks it: zeros; a keeps its own
        "cat": TokenSettings(b, force=True),
        "dog": TokenSettings(ModelToken(b, token="owl"), force=True),
        "<new>": TokenSettings(ModelToken(a, token_id=3)),
        "<none>": TokenSettings(),
    }
    found = build(TokenizerSettings("base", tokens), a, {a: 4, b: 3})
    assert list(found.tokens) == ["<unk>", "cat", "dog", "cow", "<new>", "<none>"]
    assert rows_of(found, a) == [(0, 0), (1, 1), (1, 2), (0, 3), (0, 3), (ZERO, -1)]
    assert rows_of(found, b) == [(1, 0), (1, 1), (1, 2), (ZERO, -1), (0, 3), (ZERO, -1)]
    assert [note for note in found.notes if "zeros" in note] == ["in no model, so its row is zeros: '<none>'"]


def test_force_without_a_source_takes_the_ordinary_one(words):
    a, b = words("a", "<unk> cat"), words("b", "cat <unk>")
    found = build(TokenizerSettings("base", {"cat": TokenSettings(force=True)}), a, {a: 2, b: 2})
    assert rows_of(found, b) == [(1, 1), (0, 1)]


@pytest.mark.parametrize(
    ("token", "source", "message", "fix"),
    [
        (
            "cat",
            lambda a, b: ModelRef("elsewhere/c"),
            "elsewhere/c is not one of the merge's models",
            "use one",
        ),
        ("dog", lambda a, b: b, "has no token 'dog'", "name one"),
        (
            "dog",
            lambda a, b: ModelToken(b, token="<|im-start|>"),
            "no token '<|im-start|>'",
            "'<|im_start|>'",
        ),
        ("cat", lambda a, b: ModelToken(b, token_id=3), "has no row 3: its embeddings have 3", "below"),
    ],
)
def test_sources_that_are_not_there(words, token, source, message, fix):
    a, b = words("a", "<unk> cat dog"), words("b", "<unk> cat", special("<|im_start|>"))
    settings = TokenizerSettings("base", {token: TokenSettings(source(a, b))})
    with pytest.raises(RecipeError) as caught:
        build(settings, a, {a: 3, b: 3})
    assert caught.value.message.startswith(f"tokenizer.tokens['{token}'].source: ")
    assert message in caught.value.message
    assert fix in caught.value.fix


def test_settings_check_themselves():
    model = ModelRef("m")
    for token, token_id in ((None, None), ("a", 1), (None, -1)):
        with pytest.raises(RecipeError):
            ModelToken(model, token, token_id)
    with pytest.raises(RecipeError, match="pad_to_multiple_of"):
        TokenizerSettings(pad_to_multiple_of=0)


def test_models_that_are_not_there(words):
    a = words("a", "<unk> cat")
    with pytest.raises(RecipeError, match=r"tokenizer\.source"):
        build(TokenizerSettings(ModelRef("b")), a, {a: 2})
    with pytest.raises(RecipeError, match="base_model"):
        build(TokenizerSettings(a), ModelRef("b"), {a: 2})


def test_tokens_without_an_embedding_row_are_dropped(words):
    a = words("a", "<unk> cat", special("<pad>"), special("<a>"))
    b = words("b", "<unk> cat dog", special("<pad>"))
    found = build(UNION, a, {a: 2, b: 4})
    assert found.tokens == {"<unk>": 0, "cat": 1, "dog": 2, "<pad>": 3}  # b's, after its word
    assert rows_of(found, a) == [(0, 0), (0, 1), (1, 2), (1, 3)]
    assert found.renumbering[a].tolist() == [0, 1, 3, -1]
    assert any("'<pad>', '<a>'" in note and str(a) in note for note in found.notes)
    assert found.definition is not None


def test_pieces_without_an_embedding_row_are_dropped_with_their_merges(save):
    a = save("a", bpe_model("abc", [("a", "b"), ("ab", "c"), ("b", "c")]))
    found = build(BASE, a, {a: 4})
    assert found.tokens == {"a": 0, "b": 1, "c": 2, "ab": 3}
    assert json.loads(found.definition)["model"]["merges"] == [["a", "b"]]


def test_rows_to_spare_stay(words):
    a, b = words("a", "<unk> cat"), words("b", "<unk> cat", special("<im>"))
    found = build(BASE, a, {a: 6, b: 5})
    assert found.rows == 6
    assert found.maps[a].identity
    # row 2 is a token in b, so no spare one; rows 3 and 4 are; row 5 b does not have
    assert rows_of(found, b) == [(1, 0), (1, 1), (AVERAGE, -1), (1, 3), (1, 4), (AVERAGE, -1)]
    trimmed = build(BASE, a, {a: 6, b: 5}, trim=True)
    assert trimmed.rows == 2
    assert rows_of(trimmed, b) == [(1, 0), (1, 1)]
    assert not trimmed.maps[a].identity  # its rows, but not all of them


def test_padding(words):
    a = words("a", "<unk> cat dog")
    found = build(TokenizerSettings("base", pad_to_multiple_of=4), a, {a: 3})
    assert found.rows == 4
    assert rows_of(found, a) == [(0, 0), (0, 1), (0, 2), (AVERAGE, -1)]
    assert build(TokenizerSettings("base", pad_to_multiple_of=3), a, {a: 3}).rows == 3
    trimmed = build(TokenizerSettings("base", pad_to_multiple_of=4), a, {a: 9}, trim=True)
    assert rows_of(trimmed, a)[3:] == [(AVERAGE, -1)]


def test_a_model_without_tokenizer_has_the_bases(words, tmp_path):
    a = words("a", "<unk> cat dog")
    (tmp_path / "bare").mkdir()
    bare = ModelRef(str(tmp_path / "bare"))
    found = build(UNION, a, {a: 3, bare: 3})
    assert found.identity
    assert found.notes == (f"{bare}: it has no tokenizer; {a}'s is taken for it",)
    with pytest.raises(CheckpointError, match="no tokenizer"):
        build(UNION, bare, {a: 3, bare: 3})


def test_slow_and_broken_tokenizers(words, tmp_path):
    a, b = words("a", "<unk> cat"), words("b", "<unk> cat")
    (tmp_path / "b" / "tokenizer.json").write_text('{"version": ')
    with pytest.raises(CheckpointError, match=r"b/tokenizer\.json"):
        build(UNION, a, {a: 2, b: 2})
    (tmp_path / "b" / "tokenizer.json").unlink()
    (tmp_path / "b" / "tokenizer.model").write_bytes(b"\0")
    with pytest.raises(CheckpointError, match=r"tokenizer\.model, not tokenizer\.json") as caught:
        build(UNION, a, {a: 2, b: 2})
    assert "AutoTokenizer.from_pretrained" in caught.value.fix


@pytest.mark.parametrize("text", ["[]", "{", '{"added_tokens_decoder": {"0": {"contents": "a"}}}'])
def test_broken_settings(words, text):
    a = words("a", "<unk> cat")
    (Path(a.path) / "tokenizer_config.json").write_text(text)
    with pytest.raises(CheckpointError) as caught:
        build(UNION, a, {a: 2})
    assert a.path in caught.value.message


def test_two_definitions_of_one_token(words):
    a = words("a", "<unk> cat <b>", special("<im>"))
    b = words("b", "<unk> cat", special("<im>", lstrip=True), special("<b>"), special("<c>"))
    c = words("c", "<unk> cat", special("<c>", rstrip=True))
    found = build(UNION, a, {a: 4, b: 5, c: 3})
    flags = {token["content"]: token for token in json.loads(found.definition)["added_tokens"]}
    assert list(flags) == ["<im>", "<c>"]
    assert not flags["<im>"]["lstrip"]
    assert not flags["<c>"]["rstrip"]
    assert found.notes == (
        f"{b}: defined otherwise in a model before it, which counts: '<im>', '<b>'",
        f"{c}: defined otherwise in a model before it, which counts: '<c>'",
    )


def test_roles_are_the_donors(words):
    a = words("a", "<unk> </s>", settings={"eos_token": "</s>"})
    b = words("b", "<unk> </s>", special("<end>"), settings={"eos_token": "<end>"})
    found = build(UNION, a, {a: 2, b: 3})
    assert found.notes == (f"eos_token is '</s>', as {a} has it; {b} has '<end>'",)


def test_a_named_token_has_the_flags_that_a_model_gives_it(words):
    a, b = words("a", "<unk>"), words("b", "<unk>", special("<im>", rstrip=True))
    tokens = {"<im>": TokenSettings(), "<plain>": TokenSettings(Zero())}
    found = build(TokenizerSettings("base", tokens), a, {a: 1, b: 2})
    im, plain = json.loads(found.definition)["added_tokens"]
    assert (im["content"], im["special"], im["rstrip"]) == ("<im>", True, True)
    assert (plain["content"], plain["special"], plain["normalized"]) == ("<plain>", False, False)


@pytest.mark.parametrize(
    ("settings", "files"),
    [
        (
            {"pad_token": "[PAD]", "eos_token": {"__type": "AddedToken", "content": "<end>", "lstrip": True}},
            {},
        ),
        ({"extra_special_tokens": ["<x>", "<y>"], "image_token": "<image>"}, {}),
        ({"additional_special_tokens": ["<x>"]}, {"added_tokens.json": {"<late>": 4, "<early>": 3}}),
        ({}, {"special_tokens_map.json": {"pad_token": "[PAD]", "sep_token": {"content": "[SEP]"}}}),
        (
            {
                "added_tokens_decoder": {"4": {"content": "<b>", "special": True}, "3": {"content": "<a>"}},
                "pad_token": "<b>",
            },
            {"special_tokens_map.json": {"pad_token": "[PAD]"}},
        ),
    ],
)
def test_tokens_that_only_other_files_name(words, settings, files):
    from transformers import AutoTokenizer

    a = words("a", "<unk> cat dog", settings=settings)
    for name, content in files.items():
        (Path(a.path) / name).write_text(json.dumps(content))
    found = build(BASE, a, {a: 9})
    assert found.tokens == AutoTokenizer.from_pretrained(a.path).get_vocab()
    assert len(found.tokens) > 3


def test_maps_of_large_vocabularies(save):
    """Against a loop over the tokens, and fast."""
    draw = random.Random(0)
    names = [f"t{number}" for number in range(60_000)]
    lists = [names[:50_000], draw.sample(names, 45_000), draw.sample(names, 50_000)]
    a, b, c = (
        save(
            name,
            models.WordLevel({text: row for row, text in enumerate(["<unk>", *texts])}, unk_token="<unk>"),
        )
        for name, texts in zip("abc", lists, strict=True)
    )
    sizes = {a: 50_001, b: 44_000, c: 50_001}
    started = time.perf_counter()
    found = build(UNION, a, sizes)
    assert time.perf_counter() - started < 10  # with reading; about 1 s, unless the machine is busy
    ids = [
        {text: row for row, text in enumerate(["<unk>", *texts]) if row < size}
        for texts, size in zip(lists, sizes.values(), strict=True)
    ]
    assert set(found.tokens) == set().union(*ids)
    for model, ref in enumerate(found.models):
        donor, row, mixed = (getattr(found.maps[ref], key) for key in ("donor", "row", "mixed"))
        for text, place in found.tokens.items():
            owners = tuple((other, own[text]) for other, own in enumerate(ids) if text in own)
            own = [pair for pair in owners if pair[0] == model]
            base = [pair for pair in owners if pair[0] == 0]
            expected = own or (owners if len(owners) == 1 else base)
            if expected:
                assert (donor[place], row[place]) == expected[0]
            else:
                assert (donor[place], row[place], mixed[place]) == (MIXED, -1, owners)
        assert mixed.keys() == set(np.flatnonzero(donor == MIXED).tolist())
        assert not donor.flags.writeable
