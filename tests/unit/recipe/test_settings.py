"""Values of parameters: every form that mergekit reads, and what they come to for one tensor."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mergery.errors import RecipeError
from mergery.methods import Parameter
from mergery.recipe import Recipe
from mergery.recipe.mistakes import Mistakes
from mergery.recipe.settings import Filtered, evaluate, parse_setting, read_setting, setting_data


def parse(data: object):
    return parse_setting(data, where="w")


@pytest.mark.parametrize(
    ("data", "setting"),
    [
        (0.5, 0.5),
        (3, 3.0),
        ("0.5", 0.5),
        ("1e-5", 1e-5),  # which YAML 1.1 takes for a text
        (True, True),
        ("l1", "l1"),
        ([0, 0.5, 1], (0.0, 0.5, 1.0)),
        ([True, "0.5"], (1.0, 0.5)),
        ([2], (2.0,)),
        ({"filter": "mlp", "value": 2}, (Filtered("mlp", 2.0),)),
        ([{"filter": None, "value": 2}], (Filtered("*", 2.0),)),
        ([{"value": "l1"}], (Filtered("*", "l1"),)),
        (
            [{"filter": "mlp", "value": [0, 1]}, {"filter": "*", "value": "3"}],
            (Filtered("mlp", (0.0, 1.0)), Filtered("*", 3.0)),
        ),
    ],
)
def test_every_form_is_read_and_written_back(data, setting):
    assert parse(data) == setting
    assert type(parse(data)) is type(setting)
    assert parse(setting_data(setting)) == setting


@pytest.mark.parametrize(
    "data", [None, [], {}, [[1]], [1, "x"], [1, {"value": 2}], [{"value": {}}], object()]
)
def test_other_forms_are_refused(data):
    with pytest.raises(RecipeError, match=r"^w"):
        parse(data)


# mergekit 0.1's evaluation, worked out by hand: s = t (n - 1), between its neighbours in proportion
@pytest.mark.parametrize(
    ("data", "position", "value"),
    [
        (0.5, 0.3, 0.5),
        ([0, 1], 0, 0),
        ([0, 1], 1 / 3, 1 / 3),
        ([0, 1], 1, 1),
        ([0, 1, 0.5], 0.25, 0.5),
        ([0, 1, 0.5], 0.5, 1),
        ([0, 1, 0.5], 0.75, 0.75),
        ([0, 1, 0.5], 1, 0.5),
        ([7], 0.5, 7),
        ({"value": [0, 2]}, 0.5, 1),
    ],
)
def test_gradients_run_from_the_first_value_to_the_last(data, position, value):
    assert evaluate(parse(data), "x", position) == pytest.approx(value, abs=1e-12)


def test_the_first_filter_that_fits_counts():
    setting = parse(
        [
            {"filter": "attn", "value": [0, 2]},
            {"filter": "mlp.down", "value": 5},
            {"filter": "mlp", "value": 3},
            {"filter": "layers.*.norm", "value": 9},
        ]
    )
    assert evaluate(setting, "layers.0.attn.q", 0.5) == 1
    assert evaluate(setting, "layers.0.mlp.down", 0.5) == 5
    assert evaluate(setting, "layers.0.mlp.up", 0.5) == 3
    # a pattern is looked for letter by letter, as in mergekit; and what none fits has no value here
    assert evaluate(setting, "layers.0.norm", 0.5) is None


def test_words_come_back_as_they_are():
    assert evaluate("l1", "x", 0.5) == "l1"
    assert evaluate(parse([{"filter": "mlp", "value": "l1"}, {"value": "l2"}]), "attn", 0.5) == "l2"


def test_every_number_is_checked_at_its_own_place():
    density = Parameter("density", "density", True, float, None, 1.0)
    word = Parameter("rescaling", "rescaling", False, str, None, "l1", choices=("l1", "l2"))
    found = Mistakes()
    assert read_setting(["x", 0.5, "y"], "density", found, density.check) is None
    assert read_setting([{"value": "much"}, {"value": 1}], "density", found, density.check) is None
    assert read_setting("l3", "rescaling", found, word.check) is None
    assert (
        read_setting([{"filter": "a", "value": "l1"}, {"value": 2}], "rescaling", found, word.check) is None
    )
    assert [mistake.message.partition(": ")[0] for mistake in found.found] == [
        "density[0]",
        "density[2]",
        "density[0].value",
        "rescaling",
        "rescaling[1].value",
    ]
    assert read_setting("l2", "rescaling", found, word.check) == "l2"


def test_nothing_written_falls_through():
    data = {
        "merge_method": "linear",
        "models": [{"model": "a/x", "parameters": {"weight": None}}, {"model": "a/y"}],
        "parameters": {"weight": 2},
    }
    assert Recipe.from_dict(data).slices[0].sources[0].parameters == {}


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=6), st.floats(0, 1))
def test_a_gradient_stays_between_its_ends(values, position):
    value = evaluate(tuple(values), "x", position)
    assert min(values) - 1e-9 <= value <= max(values) + 1e-9
