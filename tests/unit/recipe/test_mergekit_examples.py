"""Recipes of the shapes that mergekit's own examples and guide have, written anew: what they mean here."""

from __future__ import annotations

import pytest

from mergery.recipe import Recipe
from mergery.recipe.settings import evaluate
from mergery.tokenizer import ModelToken, Zero

LINEAR = """
models:
  - {model: ./first, parameters: {weight: 1.0}}
  - {model: ./second, parameters: {weight: 0.3}}
  - {model: ./third, parameters: {weight: 0.5}}
merge_method: linear
dtype: float16
"""

GRADIENT_SLERP = """
slices:
  - sources:
      - {model: ./first, layer_range: [0, 4]}
      - {model: ./second, layer_range: [0, 4]}
merge_method: slerp
base_model: ./first
parameters:
  t:
    - {filter: self_attn, value: [0, 0.5, 0.3, 0.7, 1]}
    - {filter: mlp, value: [1, 0.5, 0.7, 0.3, 0]}
    - value: 0.5 # what neither fits
dtype: float16
"""

TIES = """
models:
  - model: ./first
    parameters: {density: [1, 0.7, 0.1], weight: 1.0}
  - model: ./second
    parameters: {density: 0.5, weight: [0, 0.3, 0.7, 1]}
  - model: ./third
    parameters:
      density: 0.33
      weight:
        - {filter: mlp, value: 0.5}
        - value: 0
merge_method: ties
base_model: ./base
parameters: {normalize: true, int8_mask: true}
dtype: float16
"""

SCIENCES = """
models:
  - {model: ./second, parameters: {density: 0.6, weight: 0.5}}
  - {model: ./third, parameters: {density: 0.55, weight: 0.56}}
merge_method: ties
base_model: ./base
parameters: {normalize: false, int8_mask: true}
dtype: float16
"""

STACK = """
slices:
  - sources: [{model: ./first, layer_range: [0, 24]}]
  - sources: [{model: ./second, layer_range: [20, 40]}]
merge_method: passthrough
dtype: float16
"""

FUSION = """
models: [{model: ./first}, {model: ./second}]
merge_method: arcee_fusion
base_model: ./first
dtype: bfloat16
"""

EXAMPLES = (LINEAR, GRADIENT_SLERP, TIES, SCIENCES, STACK, FUSION)


@pytest.mark.parametrize("text", EXAMPLES, ids=["linear", "slerp", "ties", "sciences", "stack", "fusion"])
def test_they_are_read_as_they_are(text):
    recipe = Recipe.from_yaml(text)
    assert Recipe.from_yaml(recipe.to_yaml()) == recipe


def test_linear():
    recipe = Recipe.from_yaml(LINEAR)
    assert [source.parameters["weight"] for source in recipe.slices[0].sources] == [1.0, 0.3, 0.5]
    assert (recipe.base_model, recipe.dtype, recipe.out_dtype) == (None, "float16", None)


def test_slerp_with_gradients_by_name():
    t = Recipe.from_yaml(GRADIENT_SLERP).parameters["t"]
    assert evaluate(t, "model.layers.1.self_attn.q_proj.weight", 1 / 4) == 0.5
    assert evaluate(t, "model.layers.1.mlp.up_proj.weight", 1 / 4) == 0.5
    assert evaluate(t, "model.layers.3.mlp.up_proj.weight", 1.0) == 0
    assert evaluate(t, "lm_head.weight", 0.0) == 0.5


def test_ties_notes_what_has_no_effect():
    recipe = Recipe.from_yaml(TIES)
    first, second, third = (source.parameters for source in recipe.slices[0].sources)
    assert evaluate(first["density"], "any", 0.75) == pytest.approx(0.4)
    assert evaluate(second["weight"], "any", 1 / 3) == pytest.approx(0.3)
    assert evaluate(third["weight"], "norm", 0.5) == 0
    assert recipe.parameters == {"normalize": True}
    assert len(recipe.notes) == 1
    assert recipe.notes[0].startswith("parameters.int8_mask: has no effect")


def test_stack():
    recipe = Recipe.from_yaml(STACK)
    assert [part.sources[0].layer_range for part in recipe.slices] == [(0, 24), (20, 40)]


def test_the_guides_tokenizer_sections():
    text = """
merge_method: linear
models: [{model: ./chatml}, {model: ./llama3}]
tokenizer:
  source: union
  tokens:
    <|im_start|>: {source: ./chatml}
    <|start_header_id|>: {source: ./llama3, force: true}
    <|eot_id|>: {source: {kind: model_token, model: ./llama3, token: <|eot_id|>}}
    <|end|>: {source: {kind: model_token, model: ./chatml, token_id: 32007}}
    <|pad|>: {source: {kind: zero}}
  pad_to_multiple_of: 32
chat_template: chatml
"""
    tokens = Recipe.from_yaml(text).tokenizer.tokens
    assert tokens["<|start_header_id|>"].force
    assert isinstance(tokens["<|eot_id|>"].source, ModelToken)
    assert tokens["<|end|>"].source.token_id == 32007
    assert tokens["<|pad|>"].source == Zero()
