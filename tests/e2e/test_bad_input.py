"""A user's mistakes: said with place and fix, exit code 2, nothing written."""

from __future__ import annotations

import json

import pytest
import yaml


@pytest.fixture
def models(make_model):
    return make_model("base"), make_model("one", 1), make_model("two", 2)


@pytest.fixture
def write(tmp_path, models):
    """Write a good recipe, changed by what is given."""
    base, one, two = map(str, models)
    good = {
        "merge_method": "ties",
        "base_model": base,
        "models": [{"model": one, "parameters": {"density": 0.5}}, {"model": two}],
    }

    def change(**changes: object):
        path = tmp_path / "recipe.yml"
        path.write_text(yaml.safe_dump(good | changes))
        return path

    return change


def files(tmp_path):
    return sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))


@pytest.mark.parametrize("verb", ["merge", "plan"])
@pytest.mark.parametrize(
    ("changes", "message", "fix"),
    [
        ({"merge_method": "tise"}, "merge_method: unknown merge method 'tise'", "fix: did you mean ties?"),
        (
            {"models": [{"model": "x/y", "parameters": {"densty": 0.5}}]},
            "models[0].parameters.densty: unknown parameter of ties",
            "fix: did you mean density?",
        ),
        ({"base_model": "./nowhere"}, "./nowhere: does not exist", "fix: check the path"),
        ({"models": [{"model": "/no/such/model"}]}, "/no/such/model: does not exist", "fix: check the path"),
    ],
)
def test_a_recipe_that_is_wrong(run, write, tmp_path, verb, changes, message, fix):
    recipe = write(**changes)
    before = files(tmp_path)
    code, out, err = run(verb, recipe, *([tmp_path / "out"] if verb == "merge" else []))
    assert code == 2
    assert message in err
    assert fix in err
    assert "Traceback" not in err + out
    assert files(tmp_path) == before


def test_models_of_different_shapes(run, write, tmp_path, make_model):
    recipe = write(models=[{"model": str(make_model("wide", hidden_size=32))}])
    before = files(tmp_path)
    code, _, err = run("merge", recipe, tmp_path / "out")
    assert code == 2
    assert "model.embed_tokens.weight: shape [23, 32]" in err or "shape [23, 16]" in err
    assert "fix: merge models of one architecture" in err
    assert files(tmp_path) == before


def test_a_truncated_file(run, write, tmp_path, models):
    file = models[1] / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    before = files(tmp_path)
    code, _, err = run("merge", write(), tmp_path / "out")
    assert code == 2
    assert f"{file}: not a whole safetensors file" in err
    assert files(tmp_path) == sorted({*before, "recipe.yml"})


def test_a_pickle(run, write, tmp_path, models):
    (models[1] / "model.safetensors").rename(models[1] / "pytorch_model.bin")
    code, _, err = run("merge", write(), tmp_path / "out")
    assert code == 2
    assert "pickle (pytorch_model.bin), which can run code" in err
    assert "safetensors" in err
    assert not (tmp_path / "out").exists()


def test_a_device_that_is_not_there(run, write, search, tmp_path):
    searched = search()
    recipe = write()
    before = files(tmp_path)
    for verb, path in (("merge", recipe), ("evolve", searched)):
        code, _, err = run(verb, path, tmp_path / "out", "--device", "cudda")
        assert code == 2
        assert "device cudda: cannot be used" in err
        assert files(tmp_path) == before


def test_a_model_without_a_tokenizer(run, search, models, tmp_path):
    for file in models[0].glob("tokenizer*"):
        file.unlink()
    searched = search()
    before = files(tmp_path)
    code, _, err = run("evolve", searched, tmp_path / "out")
    assert code == 2
    assert f"{models[0]}: transformers cannot load it" in err
    assert files(tmp_path) == before


def test_an_output_that_holds_something(run, write, tmp_path):
    recipe = write()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    before = files(tmp_path)
    code, _, err = run("merge", recipe, tmp_path / "out")
    assert code == 2
    assert "out: it already holds something" in err
    assert files(tmp_path) == before


@pytest.fixture
def search(tmp_path, write):
    """Write a good search file, changed by what is given."""
    items = [{"prompt": f"the cat sees {word}", "answer": " two"} for word in "a b c d".split()]  # noqa: SIM905

    def change(validation=slice(0, 2), test=slice(2, 4), **changes: object):
        for name, part in (("validation", validation), ("test", test)):
            (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items[part]))
        recipe = yaml.safe_load(write().read_text())
        recipe["parameters"] = {"weight": {"search": [0, 1]}}
        task = {
            "confirm": 0,
            "validation": str(tmp_path / "validation.jsonl"),
            "test": str(tmp_path / "test.jsonl"),
        }
        data = {"recipe": recipe, "search": {"trials": 2}, "task": task}
        path = tmp_path / "search.yml"
        path.write_text(yaml.safe_dump(data | changes))
        return path

    return change


def test_items_in_both_validation_and_test(run, search, tmp_path):
    path = search(validation=slice(0, 3), test=slice(2, 4))
    before = files(tmp_path)
    code, _, err = run("evolve", path, tmp_path / "out")
    assert code == 2
    assert "validation.jsonl" in err
    assert "test.jsonl" in err
    assert "fix: " in err
    assert files(tmp_path) == before


def test_a_search_into_a_directory_that_holds_something(run, search, tmp_path):
    path = search()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").write_text("mine")
    before = files(tmp_path)
    code, _, err = run("evolve", path, tmp_path / "out")
    assert code == 2
    assert "out" in err
    assert "fix: " in err
    assert files(tmp_path) == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"serach": {}}, "serach: unknown key"),
        ({"search": {"trials": 2, "algorithm": "cmaes"}}, "unknown search algorithm 'cmaes'"),
        ({"search": {"trials": 0}}, "search.trials"),
    ],
)
def test_a_search_file_that_is_wrong(run, search, tmp_path, changes, message):
    path = search(**changes)
    before = files(tmp_path)
    code, _, err = run("evolve", path, tmp_path / "out")
    assert code == 2
    assert message in err
    assert files(tmp_path) == before


def test_unknown_methods_and_models_in_the_other_verbs(run, tmp_path):
    code, _, err = run("methods", "show", "tie")
    assert (code, "did you mean ties?" in err) == (2, True)
    code, _, err = run("inspect", tmp_path / "none")
    assert (code, "does not exist" in err) == (2, True)
    code, _, err = run("merge", tmp_path / "none.yml", tmp_path / "out")
    assert (code, "cannot be read" in err) == (2, True)
