"""``mergery check``: all mistakes in one go, before any download, without a weight being read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file

from mergery.cli import main


@pytest.fixture
def check(monkeypatch, capsys):
    """Run the verb in this process, with every way to the hub closed; its exit code and output."""

    def no_download(*_: object, **__: object) -> None:
        raise AssertionError("a download")

    monkeypatch.setattr("huggingface_hub.snapshot_download", no_download)

    def call(*files: Path) -> tuple[int, str]:
        capsys.readouterr()  # what saving the models printed
        monkeypatch.setattr(sys, "argv", ["mergery", "check", *map(str, files)])
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        assert captured.err == ""
        return int(stop.value.code or 0), captured.out

    return call


@pytest.fixture
def write(tmp_path):
    def recipe(data: object, name: str = "recipe.yml") -> Path:
        path = tmp_path / name
        path.write_text(data if isinstance(data, str) else yaml.safe_dump(data, sort_keys=False))
        return path

    return recipe


TEN = """
merge_method: ties
base_mdel: org/base                                        # 1
models:
  - model: org/a+b+c                                       # 2
    parameters: {density: 2, wieght: 1}                    # 3, 4
  - model: org/two
    parameters: {density: [0.5, {value: 1}], lambda: 1.1}  # 5, 6
parameters: {normalize: 3}                                 # 7
dtype: int8                                                # 8
tokenizer: {source: base, tokens: {a: {force: maybe}}}     # 9
chat_template: chatlm                                      # 10
"""


def test_ten_mistakes_give_ten_messages_with_place_and_fix(check, write):
    file = write(TEN)
    code, out = check(file)
    assert code == 2
    first, *rest = out.splitlines()
    assert first == f"{file}: 10 mistakes"
    assert [line.partition(": ")[0] for line in rest[::2]] == [
        "base_mdel",
        "parameters.normalize",
        "models[0].parameters.density",
        "models[0].parameters.wieght",
        "models[0].model",
        "models[1].parameters.density",
        "models[1].parameters.lambda",
        "dtype",
        "chat_template",
        "tokenizer.tokens.a.force",
    ]
    assert all(line.startswith("fix: ") for line in rest[1::2])
    assert "org/two" not in out


def ties(base: object, *models: object, **rest: object) -> dict[str, object]:
    return {
        "merge_method": "ties",
        "base_model": str(base),
        "models": [{"model": str(model)} for model in models],
        **rest,
    }


def test_a_sound_recipe_is_planned_without_a_weight_being_read(check, write, make_model):
    base, one = make_model("base"), make_model("one", 1)
    file = one / "model.safetensors"
    # a merge would stop here
    save_file({name: torch.full_like(value, torch.nan) for name, value in load_file(file).items()}, file)
    recipe = write(ties(base, one, parameters={"int8_mask": True}))
    code, out = check(recipe)
    assert code == 0
    assert out.startswith(f"{recipe}: no mistake found\nties gives ")
    assert "warning: parameters.int8_mask: has no effect" in out


def test_models_on_the_hub_are_named_and_not_looked_at(check, write, make_model):
    base = make_model("base")
    recipe = write(ties(base, "org/one@v1", tokenizer_source="org/words"))
    code, out = check(recipe)
    assert code == 0
    assert out.splitlines() == [
        f"{recipe}: no mistake found",
        "not looked at before any download: org/one@v1, org/words",
    ]


def test_every_directory_that_is_not_there_is_said(check, write, tmp_path, make_model):
    recipe = write(
        ties(make_model("base"), "./none", "/no/such/model", "org/one", tokenizer_source="./words")
    )
    code, out = check(recipe)
    assert code == 2
    assert out.startswith(f"{recipe}: 3 mistakes\n")
    for path in ("./none", "/no/such/model", "./words"):
        assert f"{path}: does not exist" in out
    assert "not looked at before any download: org/one" in out


def test_models_that_do_not_fit_are_said(check, write, make_model):
    code, out = check(write(ties(make_model("base"), make_model("wide", hidden_size=32))))
    assert code == 2
    assert "model.embed_tokens.weight" in out
    assert "fix: " in out


def test_of_several_files_each_is_checked(check, write, make_model):
    base, one = make_model("base"), make_model("one", 1)
    good, bad = write(ties(base, one)), write("merge_method: [", "bad.yml")
    code, out = check(bad, good, good.with_name("none.yml"))
    assert code == 2
    assert f"{bad}: 1 mistake\n" in out
    assert f"{good}: no mistake found\n" in out
    assert "none.yml: cannot be read" in out
    assert check(good, good)[0] == 0


def test_a_file_of_several_recipes(check, write, make_model):
    base, one, two = make_model("base"), make_model("one", 1), make_model("two", 2)
    stages = [
        {"name": "soup", "merge_method": "linear", "models": [{"model": str(one)}, {"model": str(two)}]},
        ties(base, "soup"),
    ]
    assert check(write(yaml.safe_dump_all(stages)))[0] == 0
    stages[0]["models"][0]["modle"] = stages[0]["models"][0].pop("model")
    code, out = check(write(yaml.safe_dump_all(stages)))
    assert code == 2
    assert "soup.models[0].modle: unknown key\nfix: did you mean model?" in out


def test_merging_says_all_mistakes_too(write, tmp_path):
    command = [sys.executable, "-m", "mergery", "merge", str(write(TEN)), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("fix: ") == 10
    assert done.stdout == ""


def test_it_needs_no_torch(write, make_model):
    probe = """
import sys
from mergery.cli import main
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
assert "torch" not in sys.modules
"""
    recipe = write(ties(make_model("base"), make_model("one", 1)))
    subprocess.run([sys.executable, "-c", probe, "check", str(recipe)], check=True, capture_output=True)


def test_values_that_make_no_sense_together(check, write, make_model):
    base, one = make_model("base"), make_model("one", 1)
    data = {
        "merge_method": "della",
        "base_model": str(base),
        "models": [{"model": str(one), "parameters": {"density": [0.5, 0.95], "epsilon": 0.1}}],
    }
    code, said = check(write(data))
    assert code == 2
    assert "weight: density 0.95 with epsilon 0.1: probabilities from 0.85 to 1.05\n" in said
    assert "fix: give epsilon of at most 0.05" in said
    assert "density 0.5 " not in said  # the first layer's is in order
