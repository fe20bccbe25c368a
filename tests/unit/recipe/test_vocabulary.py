"""Tokenizer and chat template, as recipes write them."""

from __future__ import annotations

import pytest

from mergery.checkpoint import ModelRef
from mergery.errors import RecipeError, RecipeErrors
from mergery.recipe import Recipe
from mergery.tokenizer import ModelToken, TokenizerSettings, TokenSettings, Zero

LINEAR = {"merge_method": "linear", "models": [{"model": "a/x"}, {"model": "a/y"}]}


@pytest.mark.parametrize(
    ("written", "source"),
    [
        ({"tokenizer_source": "union"}, "union"),
        ({"tokenizer_source": "base"}, "base"),
        ({"tokenizer_source": "a/x"}, ModelRef("a/x")),
        ({"tokenizer_source": "model:a/x"}, ModelRef("a/x")),
        ({"tokenizer_source": "b/z@v1"}, ModelRef("b/z", "v1")),
        ({"tokenizer_source": "./bases"}, ModelRef("./bases")),
        ({"tokenizer_source": {"model": {"path": "base"}}}, ModelRef("base")),
        ({"tokenizer": {"source": {"path": "union", "revision": "v1"}}}, ModelRef("union", "v1")),
        ({"tokenizer": {"source": "a/x"}}, ModelRef("a/x")),
        ({"tokenizer": {}}, "union"),
        ({"tokenizer": {"source": None}}, "union"),
    ],
)
def test_where_the_vocabulary_comes_from(written, source):
    recipe = Recipe.from_dict(LINEAR | written)
    assert recipe.tokenizer == TokenizerSettings(source)
    assert recipe.tokenizer_source == str(source)
    assert Recipe.from_yaml(recipe.to_yaml()).tokenizer == TokenizerSettings(source)


def test_nothing_said_about_it():
    assert Recipe.from_dict(LINEAR).tokenizer is None
    assert Recipe.from_dict(LINEAR).tokenizer_source is None


def test_sources_of_single_tokens():
    tokens = {
        "<|im_start|>": {"source": "a/x"},
        "<|im_end|>": {"source": {"path": "a/y"}, "force": True},
        "<pad>": {"source": {"kind": "zero"}},
        "<a>": {"source": {"kind": "model_token", "model": "a/x", "token": "<s>"}},
        "<b>": {"source": {"kind": "model_token", "model": "a/y", "token_id": "7"}},
        "<c>": {},
    }
    data = LINEAR | {"tokenizer": {"source": "base", "tokens": tokens, "pad_to_multiple_of": 16}}
    recipe = Recipe.from_dict(data)
    assert recipe.tokenizer == TokenizerSettings(
        "base",
        {
            "<|im_start|>": TokenSettings(ModelRef("a/x")),
            "<|im_end|>": TokenSettings(ModelRef("a/y"), force=True),
            "<pad>": TokenSettings(Zero()),
            "<a>": TokenSettings(ModelToken(ModelRef("a/x"), token="<s>")),
            "<b>": TokenSettings(ModelToken(ModelRef("a/y"), token_id=7)),
            "<c>": TokenSettings(),
        },
        pad_to_multiple_of=16,
    )
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe


def token(source: object, **rest: object) -> dict[str, object]:
    return {"tokenizer": {"tokens": {"<t>": {"source": source, **rest}}}}


@pytest.mark.parametrize(
    ("written", "message", "fix"),
    [
        ({"tokenizer_source": "unoin"}, "tokenizer_source: unoin is neither union", "did you mean union?"),
        ({"tokenizer_source": 3}, "tokenizer_source: expected a path", "org/name"),
        ({"tokenizer": "union"}, "tokenizer: expected a mapping, got 'union'", "write source: ..."),
        ({"tokenizer": {"sorce": "base"}}, "tokenizer.sorce: unknown key", "did you mean source?"),
        (
            {"tokenizer": {"source": "base"}, "tokenizer_source": "base"},
            "tokenizer: stands beside tokenizer_source",
            "move that to source:",
        ),
        (
            {"tokenizer": {"pad_to_multiple_of": 0}},
            "pad_to_multiple_of: expected a whole number, 1 or",
            "1 or more",
        ),
        ({"tokenizer": {"tokens": ["<t>"]}}, "tokenizer.tokens: expected a mapping", "token: {source: ...}"),
        ({"tokenizer": {"tokens": {3: {}}}}, "tokenizer.tokens: 3 is not a text", "in quotes"),
        (
            {"tokenizer": {"tokens": {"<t>": "a/x"}}},
            "tokenizer.tokens.<t>: expected a mapping",
            "source: ...",
        ),
        (token("a/z"), "tokens.<t>.source: a/z is not merged here", "did you mean a/"),
        (token("a/x", force="yes"), "tokens.<t>.force: expected true or false", "true or false"),
        (token("a/x", froce=True), "tokens.<t>.froce: unknown key", "did you mean force?"),
        (token({"kind": "zeros"}), "source.kind: unknown kind 'zeros'", "did you mean zero?"),
        (token({"kind": "zero", "token": "<s>"}), "source.token: unknown key", "use one of: kind"),
        (token({"kind": "model_token", "token": "<s>"}), "source.model: missing", "add model:"),
        (token({"model": "a/x", "token": "<s>"}), "source.kind: missing", "add kind:"),
        (
            token({"kind": "model_token", "model": "a/x", "token": "<s>", "token_id": 1}),
            "<t>.source: needs token or token_id, and only one of them",
            "write token: ...",
        ),
        (
            token({"kind": "model_token", "model": "a/z", "token": "<s>"}),
            "<t>.source.model: a/z is not merged here",
            "did you mean",
        ),
        (
            token({"kind": "model_token", "model": "a/x", "token_id": -1}),
            "<t>.source.token_id: expected a whole number, 0 or more, got -1",
            "0 or more",
        ),
        (
            token({"kind": "model_token", "model": "a/x", "token": 5}),
            "<t>.source.token: expected a text",
            "quotes",
        ),
    ],
)
def test_a_mistake_is_said_once_with_its_place_and_its_fix(written, message, fix):
    with pytest.raises(RecipeError) as caught:
        Recipe.from_dict(LINEAR | written)
    assert not isinstance(caught.value, RecipeErrors), str(caught.value)
    assert message in caught.value.message
    assert fix in caught.value.fix


JINJA = "{% for message in messages %}{{ message['content'] }}{% endfor %}"


@pytest.mark.parametrize("template", ["auto", "alpaca", "chatml", "exaone", "llama3", "mistral", JINJA])
def test_chat_templates(template):
    recipe = Recipe.from_dict(LINEAR | {"chat_template": template})
    assert recipe.chat_template == template
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe


@pytest.mark.parametrize(
    ("template", "message", "fix"),
    [
        ("chatlm", "chat_template: 'chatlm' is neither a known template", "did you mean chatml?"),
        ("{{ messages }}", "is neither a known template nor Jinja text", "use one of: alpaca, auto"),
        ("a sentence of more than twenty characters", "is neither a known template nor Jinja", "auto"),
        ("{% for message in messages %}{{ message", "chat_template: line 1: ", "mend the Jinja"),
        (3, "chat_template: expected a text", "quotes"),
    ],
)
def test_what_is_no_chat_template(template, message, fix):
    with pytest.raises(RecipeError) as caught:
        Recipe.from_dict(LINEAR | {"chat_template": template})
    assert message in caught.value.message
    assert fix in caught.value.fix
