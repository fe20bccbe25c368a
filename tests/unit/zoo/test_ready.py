import time

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from mergery.errors import ZooError
from mergery.zoo import DEMO_EXPERTS, Zoo, ready_made
from mergery.zoo.measure import accuracy, pack
from mergery.zoo.members import CURRICULUM
from mergery.zoo.ready import READY, SHIPPED
from mergery.zoo.tasks import LANGUAGE_TASKS, draw_items, read_items
from mergery.zoo.tokenizer import train_tokenizer, vocabulary_of


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    return ready_made(tmp_path_factory.mktemp("ready") / "zoo")


def test_it_is_quick_and_may_be_done_again(zoo):
    started = time.perf_counter()
    assert ready_made(zoo.directory) == zoo
    assert time.perf_counter() - started < 3


def test_it_has_the_layout_of_a_build(zoo):
    assert Zoo.open(zoo.directory) == zoo
    assert tuple(member.name for member in zoo.members) == SHIPPED
    assert all(name in SHIPPED for name in DEMO_EXPERTS)
    for member in zoo.members:
        names = sorted(path.name for path in member.path.iterdir())
        expected = ["config.json", "generation_config.json", "model.safetensors"]
        assert names == [*expected, "tokenizer.json", "tokenizer_config.json"]


def test_items_are_those_that_a_build_writes(zoo):
    for task in LANGUAGE_TASKS:
        for split, count in zip(("validation", "test"), CURRICULUM.items(task), strict=True):
            items = read_items(zoo.items(task, split))
            assert len(items) == count
            assert items[:40] == draw_items(task, split, 40)


@pytest.mark.parametrize("name", SHIPPED)
def test_scores_measured_anew_agree_with_the_manifest(name, zoo):
    member = zoo.member(name)
    model = AutoModelForCausalLM.from_pretrained(member.path, dtype=torch.float32)
    vocabulary = vocabulary_of(AutoTokenizer.from_pretrained(member.path))
    assert vocabulary == vocabulary_of(train_tokenizer())
    for task in ("maths-j", "maths-e", "how-j"):
        score = accuracy(model, pack(read_items(zoo.items(task, "test")), vocabulary))
        # Other processors round other sums: single items near a tie may change sides.
        assert score == pytest.approx(member.scores[task], abs=0.006)


def test_the_parents_know_their_half_and_not_the_whole(zoo):
    base, japanese, maths = (zoo.member(name).scores for name in ("base", *DEMO_EXPERTS))
    assert max(scores["maths-j"] for scores in (base, japanese, maths)) <= 0.15
    assert japanese["how-j"] >= 0.9
    assert maths["maths-e"] >= 0.9


def test_every_file_is_small():
    sizes = [path.stat().st_size for path in READY.iterdir()]
    assert max(sizes) <= 1.4e6
    assert sum(sizes) <= 12e6


def test_it_does_not_write_over_what_is_not_a_zoo(tmp_path):
    (tmp_path / "thesis.txt").write_text("dear")
    with pytest.raises(ZooError, match="not an empty directory"):
        ready_made(tmp_path)
