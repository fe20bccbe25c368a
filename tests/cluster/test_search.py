"""A search on a Ray cluster of this machine: the same trials, the same failures. `make cluster` runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mergery.errors import CheckpointError, DeviceError, WorkerError
from mergery.evolve import SearchSpec, evolve
from mergery.evolve.examiner import Examiner
from mergery.evolve.launchers import Job, check_launcher
from mergery.evolve.launchers.ray import RayLauncher
from mergery.evolve.ledger import Ledger
from misbehaving import EXAM, SPACE, OpenFormula, formula

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.filterwarnings("default")  # ray's own
TESTS = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module", autouse=True)
def cluster():
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        logging_level="warning",
        runtime_env={"env_vars": {"PYTHONPATH": str(TESTS)}},
    )
    yield
    ray.shutdown()


@pytest.fixture
def examiner(tmp_path):
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        yield Examiner(None, EXAM, ledger, "inputs")


def candidate(number: int):
    return SPACE.candidate((number / 20, 0.0, 0.0))


@pytest.fixture
def search(make_model, tmp_path) -> SearchSpec:
    words = "the cat dog bird sees has takes one two three four five".split()  # noqa: SIM905
    prompts = [f"{first} {second} {third}" for first in words for second in words[:5] for third in words[:2]]
    for name, some in (("validation", prompts[:40]), ("test", prompts[40:])):
        items = [{"prompt": prompt, "answer": f" {words[len(prompt) % 7]}"} for prompt in some]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    models = [
        {"model": str(make_model(name, seed, near=0)), "parameters": {"weight": {"search": [-0.5, 2.0]}}}
        for name, seed in (("one", 1), ("two", 2))
    ]
    base = str(make_model("base"))
    return SearchSpec.from_dict(
        {
            "recipe": {"merge_method": "task_arithmetic", "base_model": base, "models": models},
            "search": {"algorithm": "random", "trials": 6, "finalists": 2},
            "task": {
                "evaluator": "likelihood",
                "validation": str(tmp_path / "validation.jsonl"),
                "test": str(tmp_path / "test.jsonl"),
            },
        }
    )


def test_a_cluster_finds_what_one_process_finds(search, tmp_path):
    found = evolve(search, tmp_path / "ray", launcher="ray")
    alone = evolve(search, tmp_path / "alone")
    assert [(trial.genome, trial.score) for trial in found.trials] == [
        (trial.genome, trial.score) for trial in alone.trials
    ]


def test_candidates_that_kill_or_hang_have_failed(tmp_path, examiner):
    ways = ["", "kill", "hang", "error", "exit"]
    with RayLauncher(examiner, OpenFormula(tmp_path / "log", ways=ways), "cpu", 1, 3.0) as launcher:
        assert launcher.slots == 2
        for number in range(20):
            launcher.submit(Job(number, candidate(number)))
        ended = {finished.number: finished for finished in (launcher.next() for _ in range(20))}
    seen = dict.fromkeys(ways, 0)
    for number, finished in ended.items():
        recipe = candidate(number).recipe
        way = ways[int(recipe.digest[:2], 16) % len(ways)]
        seen[way] += 1
        if way == "":
            assert finished.examined.outcomes.tolist() == formula(recipe).tolist()
            assert examiner.known(candidate(number)).outcomes.tolist() == formula(recipe).tolist()
        elif way == "hang":
            assert finished.failure == "no end within 3 s (search.timeout)"
        elif way == "error":
            assert finished.failure.startswith("ValueError: no number in '' (misbehaving.py:")
        else:
            assert finished.failure.startswith("its worker has failed: ")
    assert all(seen.values())


@pytest.mark.parametrize(
    ("opening", "error", "says"),
    [
        ({"ways": ["disk"]}, CheckpointError, "the disk is gone"),
        ({"way": "disk"}, CheckpointError, "the disk is gone"),
        ({"way": "error"}, WorkerError, "could not open the search: ValueError"),
        ({"way": "kill"}, WorkerError, "ended before it had opened the models"),
    ],
)
def test_what_is_not_the_candidates_fault_ends_the_search(tmp_path, examiner, opening, error, says):
    with RayLauncher(examiner, OpenFormula(tmp_path / "log", **opening), "cpu", 1) as launcher:
        launcher.submit(Job(0, candidate(0)))
        with pytest.raises(error, match=says):
            launcher.next()


def test_what_the_cluster_does_not_have_is_an_error(search, tmp_path, examiner):
    settings = search.launched(launcher="ray").search
    with pytest.raises(DeviceError, match="Ray chooses it"):
        check_launcher(settings, "cuda:1")
    if not ray.cluster_resources().get("GPU"):
        with pytest.raises(DeviceError, match="no machine with 1 CPU and 1 GPU"):
            RayLauncher(examiner, OpenFormula(tmp_path / "log"), "cuda", 1)
