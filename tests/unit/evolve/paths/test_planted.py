"""A trained model taken to pieces: the path that puts it together again has its score, and no other order."""

from __future__ import annotations

import json
import shutil
from itertools import permutations

import pytest
import torch
from safetensors.torch import load_file, save_file

from mergery import merge
from mergery.checkpoint import Checkpoint, ModelRef
from mergery.engine.stock import load_stock
from mergery.evaluate import get_evaluator, load_items
from mergery.evolve.paths import Hop, LivePaths, Path, path_recipe
from mergery.zoo import ready_made

LAYER = "model.layers.{}."
OUTPUTS = ("self_attn.o_proj.weight", "mlp.down_proj.weight")


def pieces(source, directory, layers, factors):
    """A model of some of another's layers, their outputs times a factor each; ``None`` is a random layer."""
    shutil.copytree(source, directory)
    whole = load_file(source / "model.safetensors")
    weights = {name: value for name, value in whole.items() if not name.startswith("model.layers.")}
    rests = [name.removeprefix(LAYER.format(0)) for name in whole if name.startswith(LAYER.format(0))]
    generator = torch.Generator().manual_seed(0)
    for place, (layer, factor) in enumerate(zip(layers, factors, strict=True)):
        for rest in rests:
            value = whole[LAYER.format(layer or 0) + rest]
            if layer is None:
                value = (0.05 * torch.randn(value.shape, generator=generator)).to(value.dtype)
            weights[LAYER.format(place) + rest] = value * (factor if rest in OUTPUTS else 1.0)
    save_file(weights, directory / "model.safetensors", {"format": "pt"})
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"num_hidden_layers": len(layers)}))
    return ModelRef(str(directory))


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    return ready_made(tmp_path_factory.mktemp("planted") / "zoo")


def test_the_planted_path_restores_the_score(zoo, tmp_path):
    trained = zoo.member("maths").path
    # the donor's layers are shuffled, one of them mis-scaled; one is only in another model, mis-scaled too
    donor = pieces(trained, tmp_path / "donor", [2, 0], [0.5, 1.0])
    other = pieces(trained, tmp_path / "other", [None, 1, None], [1.0, 4.0, 1.0])
    planted = Path((Hop(0, 1), Hop(1, 1, 0.25), Hop(0, 0, 2.0)))

    live = LivePaths([donor, other])
    scorer = get_evaluator("exact_match").prepare(
        live.tokenizer, load_items(zoo.items("maths-e", "validation")), context=128
    )
    truth = scorer.score(load_stock(Checkpoint.open(ModelRef(str(trained))).directory)[0])
    assert truth.value > 0.9
    assert scorer.score(live.donor).value < 0.2

    scores = {hops: scorer.score(live.build(Path(hops))) for hops in permutations(planted.hops)}
    restored = scores.pop(planted.hops)
    assert restored.value == truth.value
    assert (restored.outcomes == truth.outcomes).all()
    assert max(score.value for score in scores.values()) < truth.value - 0.1
    for wrong in (
        Path((Hop(0, 1), Hop(1, 1), Hop(0, 0, 2.0))),
        Path((Hop(0, 1), Hop(0, 0, 2.0))),
        Path((Hop(0, 1), Hop(1, 2), Hop(0, 0, 2.0))),
    ):
        assert scorer.score(live.build(wrong)).value < truth.value - 0.05

    merge(path_recipe(planted, [donor, other]), tmp_path / "out")
    written = load_file(tmp_path / "out" / "model.safetensors")
    original = load_file(trained / "model.safetensors")
    assert written.keys() == original.keys()
    assert all(torch.equal(written[name], value) for name, value in original.items())
