"""Plain merges of the models that a search works on."""

from __future__ import annotations

from mergery.evolve import SearchSpace
from mergery.evolve.references import SCALES, plain_merges, task_arithmetic, uniform

KNOB = {"parameters": {"weight": {"search": [-0.5, 3.0]}}}


def space(method: str = "task_arithmetic", **more: object) -> SearchSpace:
    models = [{"model": f"zoo/{name}"} | KNOB for name in "ab"]
    return SearchSpace.open(
        {"merge_method": method, "base_model": "zoo/base", "models": models, "dtype": "bfloat16"} | more
    )


EXPERTS = [{"model": "zoo/a"}, {"model": "zoo/b"}]


def test_methods_at_their_papers_settings():
    found = {reference.name: reference.candidate.recipe.to_dict() for reference in plain_merges(space())}
    based = {"base_model": "zoo/base", "models": EXPERTS, "dtype": "bfloat16"}
    assert found == {
        # TIES keeps the top 20 %, DARE drops half, Model Stock has no settings
        "ties": {"merge_method": "ties", **based, "parameters": {"density": 0.2}},
        "dare_ties": {"merge_method": "dare_ties", **based, "parameters": {"density": 0.5}},
        "model_stock": {"merge_method": "model_stock", **based},
    }
    assert all(reference.candidate.path is None for reference in plain_merges(space()))


def test_what_the_search_merges_otherwise_does_not_matter():
    other = space("ties", parameters={"density": {"search": [0.1, 0.9]}})
    assert plain_merges(other) == plain_merges(space())
    assert uniform(other) == uniform(space())


def test_the_average_is_of_the_experts_without_the_base():
    found = uniform(space()).to_dict()
    assert found == {"merge_method": "linear", "models": EXPERTS, "dtype": "bfloat16"}
    listed = space(models=[{"model": "zoo/base"}, *({"model": f"zoo/{name}"} | KNOB for name in "ab")])
    assert uniform(listed).to_dict() == found


def test_task_arithmetic_at_every_scale():
    found = dict(task_arithmetic(space()))
    assert tuple(found) == SCALES
    assert found[0.4].to_dict() == {
        "merge_method": "task_arithmetic",
        "base_model": "zoo/base",
        "models": EXPERTS,
        "dtype": "bfloat16",
        "parameters": {"weight": 0.4},
    }


def test_without_a_base_there_is_only_the_average():
    models = [{"model": f"zoo/{name}"} | KNOB for name in "ab"]
    alone = SearchSpace.open({"merge_method": "linear", "models": models})
    assert plain_merges(alone) == ()
    assert list(task_arithmetic(alone)) == []
    assert uniform(alone).to_dict() == {"merge_method": "linear", "models": EXPERTS}
