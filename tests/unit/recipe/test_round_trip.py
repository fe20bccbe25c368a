"""Whatever recipe there is, its text says the same."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st

from mergery.recipe import Recipe

MODELS = ("org/one", "./two", "/abs/three@v1.0", "org/four@main+org/adapter@v2", "base", "no", "1.5")
MAPPINGS = (
    {"path": "./a+b"},
    {"path": "./mail@home", "revision": "v1"},
    {"path": "union"},
    {"model": "./y", "lora": "org/adapter"},
)
NUMBERS = st.floats(-4, 4) | st.integers(-3, 3) | st.booleans() | st.sampled_from(["0.25", "1e-5"])
GRADIENTS = st.lists(NUMBERS, min_size=1, max_size=4)
FILTERS = st.sampled_from(["mlp", "*", "no", "", None])
ENTRIES = st.fixed_dictionaries({"value": NUMBERS | GRADIENTS}, optional={"filter": FILTERS})
SETTINGS = NUMBERS | GRADIENTS | ENTRIES | st.lists(ENTRIES, min_size=1, max_size=3)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8)


@st.composite
def sources(draw, depth: int, **more: object) -> list[dict[str, object]]:
    """Models, each once, and perhaps a recipe before them."""
    models = draw(
        st.lists(st.sampled_from([*MODELS, *MAPPINGS]), min_size=1, max_size=3, unique_by=json.dumps)
    )
    if depth and draw(st.booleans()):
        models.insert(0, draw(recipes(depth - 1)))
    parameters = st.fixed_dictionaries({}, optional={"weight": SETTINGS})
    return [{"model": model, "parameters": draw(parameters), **more} for model in models]


@st.composite
def body(draw, depth: int) -> dict[str, object]:
    if draw(st.booleans()):
        return {"models": draw(sources(depth))}
    more = st.fixed_dictionaries({}, optional={"parameters": parameters(), "base_model": st.just("./base")})
    return {
        "slices": [
            {"sources": draw(sources(depth, layer_range=[1, 3])), **draw(more)}
            for _ in range(draw(st.integers(1, 2)))
        ]
    }


def parameters() -> st.SearchStrategy[dict[str, object]]:
    return st.fixed_dictionaries({}, optional={"weight": SETTINGS, "lambda": SETTINGS})


@st.composite
def tokenizers(draw) -> dict[str, object]:
    token = st.fixed_dictionaries({}, optional={"force": st.booleans(), "source": st.just({"kind": "zero"})})
    source = st.sampled_from(["union", "base"]) | st.builds(lambda path: {"path": path}, TEXTS)
    wanted = {
        "source": source,
        "tokens": st.dictionaries(TEXTS, token, max_size=3),
        "pad_to_multiple_of": st.integers(1, 64),
    }
    return draw(st.fixed_dictionaries({}, optional=wanted))


@st.composite
def recipes(draw, depth: int) -> dict[str, object]:
    """Recipes of task arithmetic, whose base is never listed."""
    action = st.sampled_from(["copy", "drop", "merge"])
    unmatched = st.fixed_dictionaries({"action": action}, optional={"filter": TEXTS})
    optional = {
        "parameters": parameters(),
        "dtype": st.sampled_from(["torch.float16", "bfloat16"]),
        "out_dtype": st.just("float32"),
        "seed": st.integers(0, 2**70),
        "tokenizer": tokenizers(),
        "chat_template": st.sampled_from(["auto", "chatml"]),
        "compat": st.just("mergekit-0.1"),
        "unmatched": st.lists(unmatched, min_size=1, max_size=2),
    }
    data = {"merge_method": "task_arithmetic", "base_model": "org/base"}
    data |= draw(st.fixed_dictionaries({}, optional=optional))
    if draw(st.booleans()):
        return data | draw(body(depth))
    names = draw(st.lists(TEXTS, min_size=1, max_size=2, unique=True))
    return data | {"modules": {name: draw(body(depth)) for name in names}}


@settings(max_examples=60)
@given(recipes(1))
def test_a_recipe_and_its_text_say_the_same(data):
    recipe = Recipe.from_dict(data)
    again = Recipe.from_yaml(recipe.to_yaml())
    assert again == recipe
    assert again.digest == recipe.digest
    assert again.models == recipe.models
    assert again.to_dict() == recipe.to_dict()
