"""Every example runs as its README says."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml
from transformers import AutoModelForCausalLM

from mergery import Recipe, merge
from mergery.evolve import SearchSpec, evolve
from mergery.zoo import ready_made

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
RECIPES = sorted(file.name for file in EXAMPLES.glob("*.yml") if not file.name.startswith("search"))
SEARCHES = sorted(file.name for file in EXAMPLES.glob("search*.yml"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("examples")
    ready_made(folder / "zoo")
    return folder


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_give_models_that_load(folder, name, monkeypatch):
    monkeypatch.chdir(folder)
    merged = merge(Recipe.load(EXAMPLES / name), folder / f"{name}-out")
    model = AutoModelForCausalLM.from_pretrained(merged.directory)
    assert math.isfinite(sum(float(parameter.detach().sum()) for parameter in model.parameters()))


@pytest.mark.parametrize("name", SEARCHES)
def test_searches_run(folder, name, monkeypatch):
    monkeypatch.chdir(folder)
    data = yaml.safe_load((EXAMPLES / name).read_text())
    data["search"]["trials"] = 3
    found = evolve(SearchSpec.from_dict(data), folder / f"{name}-out")
    assert found.model.is_dir()
    assert len(found.trials) == 3


def test_the_readme_names_them_all():
    text = (EXAMPLES / "README.md").read_text()
    assert all(f"({name})" in text for name in (*RECIPES, *SEARCHES))
