"""``mergery plan``: what a merge will read, write and need, and what may go wrong with it."""

from __future__ import annotations

import json

import torch
import yaml
from safetensors.torch import load_file, save_file


def test_a_plan_says_what_will_happen_and_touches_nothing(run, make_model, tmp_path):
    base = make_model("base", dtype=torch.bfloat16, tie_word_embeddings=False)
    one = make_model("one", 1, max_position_embeddings=128)
    recipe = tmp_path / "recipe.yml"
    data = {"merge_method": "ties", "base_model": str(base), "models": [{"model": str(one)}]}
    recipe.write_text(yaml.safe_dump(data))
    before = sorted(tmp_path.rglob("*"))
    code, out, _ = run("plan", recipe, "--threads", 1)
    assert code == 0
    for text in (
        "layers  3 in model.layers",
        "reads ",
        "tensors, BF16",
        "memory ",
        "time ",
        "warning: lm_head.weight: ",
        "in the result the two are not tied",
        "max_position_embeddings is 128",
        "stored in different types",
    ):
        assert text in out
    code, out, _ = run("plan", recipe, "--json", "--threads", 1)
    facts = json.loads(out)
    assert code == 0
    assert (facts["layers"], facts["types"], facts["threads"]) == ({"model.layers.": 3}, ["BF16"], 1)
    sizes = [(path / "model.safetensors").stat().st_size for path in (base, one)]
    assert 0 < facts["bytes_written"] < sizes[0]
    assert facts["bytes_written"] < facts["bytes_read"] < sum(sizes)
    assert facts["seconds"] > 0
    assert len(facts["risks"]) == 3
    assert sorted(tmp_path.rglob("*")) == before


def test_models_that_do_not_fit_are_refused_with_all_names(run, make_model, tmp_path):
    base, deeper = make_model("base"), make_model("deeper", num_hidden_layers=4)
    recipe = tmp_path / "recipe.yml"
    data = {"merge_method": "linear", "models": [{"model": str(base)}, {"model": str(deeper)}]}
    recipe.write_text(yaml.safe_dump(data))
    code, _, err = run("plan", recipe)
    assert code == 2
    assert err.count("it has no tensor model.layers.3.") == 9
    assert "has model.layers.0 to model.layers.3" in err
    assert "fix: merge models of one architecture, saved the same way; or say under unmatched:" in err


def test_a_plan_says_when_one_expert_drowns_another(run, make_model, tmp_path):
    base, loud = make_model("base"), make_model("loud", 1)
    stored = {name: load_file(path / "model.safetensors") for name, path in (("base", base), ("loud", loud))}
    quiet = make_model("quiet", 1)
    change = {name: tensor + 0.1 * (stored["loud"][name] - tensor) for name, tensor in stored["base"].items()}
    save_file(change, quiet / "model.safetensors", metadata={"format": "pt"})
    recipe = tmp_path / "recipe.yml"
    models = [{"model": str(path), "parameters": {"weight": 1}} for path in (loud, quiet)]
    data = {"merge_method": "task_arithmetic", "base_model": str(base), "models": models}
    recipe.write_text(yaml.safe_dump(data))
    code, out, _ = run("plan", recipe)
    assert code == 0
    assert f"the changes of {loud} from the base are 10.0 times as large as those of {quiet}" in out
    recipe.write_text(yaml.safe_dump({**data, "models": models[:1]}))
    assert "times as large" not in run("plan", recipe)[1]
