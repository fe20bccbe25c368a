from __future__ import annotations

import dataclasses

import pytest

from mergery.errors import OutputError, StudyError
from mergery.evolve import SearchSettings, SearchSpec, TaskSpec
from mergery.evolve.home import Home, write_whole


@pytest.fixture
def spec(tmp_path):
    recipe = {"merge_method": "linear", "models": [{"model": "a", "parameters": {"weight": {}}}]}
    task = TaskSpec(tmp_path / "v", tmp_path / "t")
    return SearchSpec(recipe, SearchSettings(trials=20), {"task": task})


def but(spec, **settings):
    return dataclasses.replace(spec, search=dataclasses.replace(spec.search, **settings))


def test_a_home_appears_with_its_search_file(tmp_path, spec):
    home = Home(tmp_path / "deep" / "out")
    home.check(spec)
    assert not (tmp_path / "deep").exists()
    with home.claim(spec):
        assert SearchSpec.load(home.search) == spec
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["out"]
    home.check(spec)


def test_an_empty_directory_will_do(tmp_path, spec):
    (tmp_path / "out").mkdir()
    Home(tmp_path / "out").check(spec)
    with Home(tmp_path / "out").claim(spec):
        assert (tmp_path / "out" / "study" / "search.yml").exists()


def test_what_is_not_ours_is_left_alone(tmp_path, spec):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    with pytest.raises(OutputError, match="it already holds something"):
        Home(tmp_path / "out").check(spec)
    with pytest.raises(OutputError, match="not a directory"):
        Home(tmp_path / "out" / "thesis.tex").check(spec)
    assert (tmp_path / "out" / "thesis.tex").read_text() == "years of work"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize("section", ["recipe", "search", "task"])
def test_another_search_is_refused_by_its_section(tmp_path, spec, section):
    home = Home(tmp_path / "out")
    with home.claim(spec):
        pass
    other = {
        "recipe": dataclasses.replace(spec, recipe=dict(spec.recipe) | {"dtype": "float16"}),
        "search": but(spec, seed=1),
        "task": dataclasses.replace(
            spec, tasks={"task": dataclasses.replace(spec.tasks["task"], evaluator="likelihood")}
        ),
    }[section]
    with pytest.raises(StudyError, match=f"holds a search with another {section}: section"):
        home.check(other)
    assert SearchSpec.load(home.search) == spec


def test_a_second_task_is_another_search(tmp_path, spec):
    home = Home(tmp_path / "out")
    with home.claim(spec):
        pass
    two = {"one": spec.tasks["task"], "two": TaskSpec(tmp_path / "w", tmp_path / "u")}
    with pytest.raises(StudyError, match=r"holds a search with another tasks?: section"):
        home.check(dataclasses.replace(spec, tasks=two))


@pytest.mark.parametrize("end", ["trials", "budget"])
def test_trials_and_budget_may_be_raised_only(tmp_path, spec, end):
    spec = but(spec, **{end: 20})
    home = Home(tmp_path / "out")
    with home.claim(spec):
        pass
    with pytest.raises(StudyError, match=rf"^search\.{end}: .* holds a search of 20, got 19"):
        home.check(but(spec, **{end: 19}))
    more = but(spec, **{end: 30})
    home.check(more)
    with home.claim(more):
        assert SearchSpec.load(home.search) == more


def test_one_process_at_a_time(tmp_path, spec):
    home = Home(tmp_path / "out")
    busy = pytest.raises(OutputError, match="another search is running there")
    with home.claim(spec), busy, home.claim(spec):
        pass
    with home.claim(spec):
        pass


def test_a_damaged_search_file_is_told(tmp_path, spec):
    home = Home(tmp_path / "out")
    with home.claim(spec):
        pass
    for text in ("recipe: [", "recipe: {}"):
        home.search.write_text(text)
        with pytest.raises(StudyError, match=r"search\.yml: no longer a search file"):
            home.check(spec)


def test_write_whole_replaces(tmp_path):
    write_whole(tmp_path / "f", "one")
    write_whole(tmp_path / "f", "two")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("f", "two")]
