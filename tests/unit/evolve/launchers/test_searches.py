"""Whole searches of real tiny models with workers, some of whose candidates fail."""

from __future__ import annotations

import pickle

import pytest

from mergery.errors import RecipeError
from mergery.evolve import SearchSpec, evolve
from mergery.evolve.builders import MergeBuilder
from mergery.evolve.home import Home
from mergery.evolve.opening import Search
from mergery.evolve.posting import Posting
from misbehaving import way_of

FAILURES = {
    "kill": "its worker was killed by SIGKILL: memory may have run out",
    "hang": "no end within 6 s (search.timeout)",
    "nan": "the merged model's outputs are not finite",
}


def test_workers_find_what_one_process_finds_except_for_candidates_that_fail_in_them(search, tmp_path):
    search["search"] = {"algorithm": "random", "trials": 10, "seed": 9, "finalists": 2}
    search["task"]["evaluator"] = "misbehaving"
    alone = evolve(SearchSpec.from_dict(search), tmp_path / "alone")
    search["search"]["timeout"] = 6.0
    spec = SearchSpec.from_dict(search)
    builder, opened = MergeBuilder(alone.best), Search.open(spec)
    ways = [way_of(builder.build(opened.candidate(trial))) for trial in alone.trials]
    assert {"kill", "hang", "nan", ""} == {*ways}
    found = evolve(spec, tmp_path / "workers", workers=2)
    for way, trial, other in zip(ways, found.trials, alone.trials, strict=True):
        assert (trial.number, trial.genome, trial.recipe) == (other.number, other.genome, other.recipe)
        assert trial.failure == FAILURES.get(way)
        assert trial.score == (None if way else other.score)
    assert sorted(trial.told for trial in found.trials) == list(range(10))


@pytest.fixture
def home(search, tmp_path):
    home = Home(tmp_path / "out")
    with home.claim(SearchSpec.from_dict(search)):
        pass
    return home


def test_where_trials_run_may_change_when_a_search_goes_on(search, home):
    spec = SearchSpec.from_dict(search)
    here = Search.open(spec).identity("inputs")
    for changes in ({"workers": 4}, {"launcher": "ray"}, {"timeout": 60.0}):
        other = SearchSpec.from_dict(search | {"search": dict(search["search"]) | changes})
        home.check(other)
        assert Search.open(other).identity("inputs") == here


def test_what_the_command_line_says_goes_before_the_file(search):
    search["search"]["workers"] = 2
    spec = SearchSpec.from_dict(search)
    assert spec.launched() == spec
    assert spec.launched(workers=5, launcher="ray") == SearchSpec.from_dict(
        search | {"search": dict(search["search"]) | {"workers": 5, "launcher": "ray"}}
    )
    for changes, says in (({"workers": 0}, r"search\.workers"), ({"launcher": "slurm"}, r"search\.launcher")):
        with pytest.raises(RecipeError, match=says):
            spec.launched(**changes)


def test_a_search_of_paths_travels_to_workers(search):
    """What opens its models, and its candidates."""
    models = [search["recipe"]["base_model"], *(model["model"] for model in search["recipe"]["models"])]
    data = {"paths": {"models": models}, "search": {"trials": 4, "algorithm": "random"}}
    checked = Search.open(SearchSpec.from_dict(data | {"task": search["task"]}))
    posting, candidate = Posting.of(checked, "inputs"), checked.space.candidate(middle(checked))
    there = pickle.loads(pickle.dumps((posting, candidate)))
    assert there[0].space.identity == posting.space.identity
    assert there[0].exam.identity == posting.exam.identity
    assert (there[1].recipe.digest, there[1].path) == (candidate.recipe.digest, candidate.path)


def middle(checked: Search):
    return checked.space.decode((0.5,) * checked.problem.dimensions)
