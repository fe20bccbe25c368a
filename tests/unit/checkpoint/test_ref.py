"""References as people write them."""

from __future__ import annotations

import pytest

from mergery.checkpoint import ModelRef
from mergery.errors import RecipeError


@pytest.mark.parametrize(
    "text", ["org/name", "org/name@v1", "./a/b", "org/name+org/lora", "org/name@v1+org/lora@abc"]
)
def test_a_reference_is_its_text(text):
    assert str(ModelRef.parse(text)) == text


def test_the_parts_are_told_apart():
    ref = ModelRef.parse("org/name@v1+org/lora@abc")
    assert (ref.path, ref.revision) == ("org/name", "v1")
    assert (ref.adapter.path, ref.adapter.revision) == ("org/lora", "abc")


def test_the_mapping_form_holds_what_the_string_cannot():
    data = {"model": {"path": "/odd+path@here", "revision": "r"}, "lora": "org/lora"}
    ref = ModelRef.parse(data)
    assert ref == ModelRef("/odd+path@here", "r", ModelRef("org/lora"))
    assert ModelRef.parse(ref.to_data()) == ref
    assert ModelRef.parse({"path": "x"}) == ModelRef("x")
    assert ModelRef.parse(ref) is ref


@pytest.mark.parametrize("bad", ["a@b@c", "a+b+c", "a@", "+b", 3, {"model": 3}, {"lora": "x"}, {"path": 1}])
def test_what_is_no_reference(bad):
    with pytest.raises(RecipeError, match="models"):
        ModelRef.parse(bad, where="models[0].model")
