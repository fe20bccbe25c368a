"""The page of path space: every part, on a small suite, with small budgets."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from random import Random

import pytest
import torch
from bench.paths import encodings, gain, planted, sharing, tables, written
from bench.records import Records
from bench.search.suite import COUNTS, Suite
from safetensors.torch import load_file

from mergery.zoo import Zoo, ready_made
from mergery.zoo.problems import TEST, VALIDATION
from mergery.zoo.tasks import draw_items


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Zoo:
    return ready_made(tmp_path_factory.mktemp("paths") / "zoo")


@pytest.fixture(scope="module")
def suite(zoo: Zoo, tmp_path_factory: pytest.TempPathFactory) -> Suite:
    directory = tmp_path_factory.mktemp("suite")
    experts = ("japanese", "maths")
    (directory / "models").mkdir()
    for name in ("base", *experts):
        (directory / "models" / name).symlink_to(zoo.member(name).path)
    made = Suite(directory, "languages", "base", experts, ("maths-j",), "")
    pool = draw_items("maths-j", VALIDATION, 300)
    for split, items in (
        ("search", pool[:40]),
        ("confirm", pool[40:]),
        ("test", draw_items("maths-j", TEST, 60)),
    ):
        made.write_items("maths-j", split, [{"prompt": item.prompt, "answer": item.answer} for item in items])
    return made


def test_a_path_behind_the_weights_is_measured_once(
    suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(COUNTS, "confirm", 60)
    records = Records(tmp_path / "gain.jsonl")
    for _ in range(2):
        gain.run(
            suite,
            (("cat-cma", 400),),
            seed=0,
            first=400,
            total=500,
            records=records,
            steps=True,
            items=20,
        )
    rows = records.of()
    assert [(row["entry"], row["budget"]) for row in rows] == [
        ("weights", 400),
        ("weights", 500),
        ("cat-cma", 800),
        (gain.STEPS, 400 + 60 * (3 * 6 + 3 * len(gain.GAINS))),
    ]
    assert all(0 <= row["test"] <= 1 for row in rows)
    assert rows[2]["layers"] <= gain.LONGEST
    assert 0 <= rows[2]["better"] <= rows[2]["trials"]


@pytest.mark.parametrize("name", planted.DAMAGES)
def test_some_path_puts_the_pieces_together_again(name: str) -> None:
    """Slot by slot, as the aligned encoding chooses: skip junk, take layers from where they are in place."""
    for seed in range(20):
        models = planted.DAMAGES[name](5, Random(seed))
        slots = [
            {piece.layer for piece in held if piece.layer is not None} for held in zip(*models, strict=True)
        ]
        wanted = iter(range(5))
        assert all(next(wanted) in layers for layers in slots if layers)
        assert next(wanted, None) is None
        assert any(model != [planted.Piece(layer) for layer in range(5)] for model in models)


def test_pieces_are_the_layers_they_were(zoo: Zoo, tmp_path: Path) -> None:
    source = zoo.member("maths").path
    whole = load_file(source / "model.safetensors")
    pieces = [planted.Piece(2), planted.Piece(0, 2.0), planted.Piece(None), planted.Piece(2)]
    made = load_file(planted.assemble(source, tmp_path / "made", pieces) / "model.safetensors")
    for rest, factor in (("self_attn.q_proj.weight", 1.0), ("mlp.down_proj.weight", 2.0)):
        name = f"model.layers.{{}}.{rest}"
        assert torch.equal(made[name.format(0)], whole[name.format(2)])
        assert torch.equal(made[name.format(1)], factor * whole[name.format(0)])
        assert not torch.equal(made[name.format(2)], whole[name.format(0)])
        assert torch.equal(made[name.format(3)], whole[name.format(2)])
    assert torch.equal(made["model.embed_tokens.weight"], whole["model.embed_tokens.weight"])


def test_both_encodings_search(suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encodings, "DRAWS", 2)
    records = Records(tmp_path / "riddles.jsonl")
    for _ in range(2):
        encodings.run(
            suite, ("mis-scaled",), tuple(encodings.ENTRIES), seed=1, counts=(1, 3), records=records
        )
    assert len(records.of()) == 2 * len(encodings.ENTRIES)
    for entry in encodings.ENTRIES:
        early, late = records.of(entry=entry)
        assert early["searched"] <= late["searched"]
        assert early["broken"] <= early["whole"]


def test_the_goal_is_reached_at_the_first_candidate_that_has_it() -> None:
    tried = [None, *(encodings.Tried(None, score) for score in (0.5, 0.9, 0.9, 0.7))]
    assert encodings.needed(tried, 0.9) == 3
    assert encodings.needed(tried, 0.95) is None
    assert encodings.best_of(tried) is tried[2]
    assert encodings.best_of(tried[:1]) is None


@pytest.mark.parametrize("kind", ["Llama", "GPT2"])
def test_written_models_are_compared(kind: str, zoo: Zoo, tmp_path: Path) -> None:
    models = [
        written.random_model(kind, tmp_path / str(seed), layers=2, seed=seed, vocab_size=67)
        for seed in (0, 1)
    ]
    for model in models:
        for file in zoo.member("base").path.glob("tokenizer*"):
            (model / file.name).symlink_to(file)
    ids = torch.randint(3, 60, (4, 25), generator=torch.Generator().manual_seed(0))
    found = written.measure(kind, models, ids, seed=0)
    assert (found.tokens, found.searched_same, found.paper_same) == (100, 100, 100)
    assert max(found.searched, found.paper) < 1e-4


def test_sharing_is_counted(zoo: Zoo) -> None:
    models = [zoo.member(name).path for name in ("japanese", "maths")]
    ids = torch.randint(3, 60, (2, 9), generator=torch.Generator().manual_seed(0))
    found = sharing.measure("zoo", models, [ids, ids[:1]], seed=0, candidates=12)
    assert found.identical == found.passes == 24
    assert 0 < found.done < found.without


def test_the_page_shows_what_is_on_record(tmp_path: Path) -> None:
    records = {
        part: Records(tmp_path / f"{part}.jsonl") for part in ("gain", "riddles", "written", "sharing")
    }
    for seed, tests in enumerate(((0.5, 0.6), (0.5, 0.5), (0.4, 0.6))):
        for (entry, budget), test in zip((("weights", tables.TOTAL), tables.AFTER[0]), tests, strict=True):
            spent = budget if entry == "weights" else tables.FIRST + budget
            stage = gain.Stage("skills", entry, seed, spent, 0, 0, test, 10, "", 0.5, 2, 1.2)
            records["gain"].note(**asdict(stage))
    page = "\n".join(tables.page(records))
    # differences 10, 0 and 20 points: mean 10, Student's t of two degrees 4.303 × 10 / √3
    assert "| 56.7 ± 14.3 | 10.0 ± 24.8 |  | 1.2 | 6 of 30 |" in page
