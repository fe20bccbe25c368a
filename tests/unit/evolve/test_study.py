"""The loop on a real algorithm and a real record, with a formula for a score: fast, and killed for real."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mergery.errors import CheckpointError, RecipeError, StudyError
from mergery.evaluate import Scores
from mergery.evolve import SearchSpace
from mergery.evolve.algorithms import AlgorithmSettings, Problem, get_algorithm
from mergery.evolve.fitness import Scored
from mergery.evolve.record import Record
from mergery.evolve.study import run_trials

SPACE = SearchSpace.open(
    {
        "merge_method": "task_arithmetic",
        "base_model": "zoo/base",
        "models": [
            {"model": f"zoo/{name}", "parameters": {"weight": {"search": [-0.5, 3.0]}}} for name in "abc"
        ],
    }
)


def scored(value: float) -> Scored:
    outcomes = np.array([value], dtype=np.float32)
    return Scored(Scores.mean_of(outcomes, ("h",), name="m", direction="maximize"), 0.001, 0.002)


def formula(recipe) -> float:
    weights = [source.parameters["weight"] for source in recipe.slices[0].sources]
    return -sum((weight - 0.7) ** 2 for weight in weights)


def run(path, score=None, *, trials=30, seed=0, progress=None, algorithm="cma-es", direction="maximize"):
    record = Record(path, "study", direction=direction, names=SPACE.names, bounds=SPACE.bounds)
    started = get_algorithm(algorithm).start(Problem(SPACE.start), AlgorithmSettings(seed=seed))
    score = score or (lambda recipe: scored(formula(recipe)))
    return run_trials(SPACE, started, score, record, trials=trials, direction=direction, progress=progress)


def essence(trials):
    return [(trial.number, trial.genome, trial.score, trial.failure, trial.recipe) for trial in trials]


def test_a_search_improves(tmp_path):
    trials = run(tmp_path / "j.log", trials=150)
    scores = [trial.score for trial in trials]
    assert max(scores[-30:]) > max(scores[:15])
    assert [trial.number for trial in trials] == list(range(150))


def test_minimising_turns_the_search_round(tmp_path):
    trials = run(tmp_path / "j.log", lambda recipe: scored(-formula(recipe)), trials=60, direction="minimize")
    mirrored = run(tmp_path / "k.log", trials=60)
    assert [trial.genome for trial in trials] == [trial.genome for trial in mirrored]


@pytest.mark.parametrize("algorithm", ["cma-es", "random"])
@pytest.mark.parametrize("stop", [0, 1, 6, 7, 29])
def test_stopped_and_continued_is_the_same_as_not_stopped(tmp_path, stop, algorithm):
    whole = run(tmp_path / "whole.log", algorithm=algorithm)
    if stop:
        run(tmp_path / "parts.log", trials=stop, algorithm=algorithm)
    assert essence(run(tmp_path / "parts.log", algorithm=algorithm)) == essence(whole)


def test_a_failing_candidate_is_a_failed_trial(tmp_path):
    calls = iter(range(1000))

    def score(recipe):
        match next(calls) % 5:
            case 0:
                raise RecipeError("it is not finite", fix="smaller weights")
            case 1:
                raise ZeroDivisionError("division by zero")
            case 2:
                return scored(float("nan"))
        return scored(formula(recipe))

    trials = run(tmp_path / "j.log", score)
    assert [trial.score is None for trial in trials[:5]] == [True, True, True, False, False]
    assert [trial.failure for trial in trials[:4]] == [
        "it is not finite",
        "division by zero",
        "the merged model's outputs are not finite",
        None,
    ]
    # and it continues over them
    again = run(tmp_path / "j.log", lambda recipe: scored(formula(recipe)), trials=35)
    assert essence(again[:30]) == essence(trials)


def test_a_recipe_the_method_refuses_is_a_failed_trial(tmp_path):
    def score(recipe):
        raise AssertionError("never reached")

    refusing = SearchSpace(dict(SPACE.skeleton) | {"seed": "x"}, SPACE.knobs)
    record = Record(tmp_path / "j.log", "s", direction="maximize", names=SPACE.names, bounds=SPACE.bounds)
    algorithm = get_algorithm("random").start(Problem(SPACE.start), AlgorithmSettings())
    (trial,) = run_trials(refusing, algorithm, score, record, trials=1, direction="maximize")
    assert trial.score is None
    assert "seed" in trial.failure
    assert trial.recipe == ""


def test_anything_else_ends_the_search_and_loses_nothing(tmp_path):
    calls = iter(range(1000))

    def score(recipe):
        if next(calls) == 7:
            raise CheckpointError("the disk is gone", fix="mount it")
        return scored(formula(recipe))

    with pytest.raises(CheckpointError):
        run(tmp_path / "j.log", score)
    assert essence(run(tmp_path / "j.log")) == essence(run(tmp_path / "whole.log"))


def test_another_seeds_record_is_not_continued(tmp_path):
    run(tmp_path / "j.log", trials=3, seed=1)
    before = (tmp_path / "j.log").read_bytes()
    with pytest.raises(StudyError, match="trial 0: recorded at"):
        run(tmp_path / "j.log", trials=5, seed=2)
    assert (tmp_path / "j.log").read_bytes() == before


def test_fewer_trials_than_recorded_are_refused(tmp_path):
    run(tmp_path / "j.log", trials=3)
    with pytest.raises(StudyError, match="holds 3 trials, and 2 are asked for"):
        run(tmp_path / "j.log", trials=2)


def test_progress_counts_and_keeps_the_best(tmp_path):
    run(tmp_path / "j.log", trials=4)
    seen = []
    trials = run(tmp_path / "j.log", trials=9, progress=seen.append)
    assert [progress.trial for progress in seen] == [5, 6, 7, 8, 9]
    assert seen[-1].best == max(trial.score for trial in trials)
    assert [progress.score for progress in seen] == [trial.score for trial in trials[4:]]
    assert all(progress.seconds_left >= 0 for progress in seen)
    assert seen[-1].seconds_left == 0


def test_known_candidates_cost_no_overhead_of_their_own(tmp_path):
    trials = run(tmp_path / "j.log", lambda recipe: scored(formula(recipe)), trials=3)
    assert all(trial.build_seconds == 0.001 and trial.score_seconds == 0.002 for trial in trials)
    assert all(trial.overhead_seconds >= 0 for trial in trials)


DRIVER = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_study import SPACE, formula, run, scored
from mergery.evaluate import Items, get_evaluator
from mergery.evaluate.items import Item
from mergery.evolve.fitness import score_once
from mergery.evolve.ledger import Ledger
home = Path(sys.argv[1])
log = (home / "scored.log").open("a", buffering=1)
def score(recipe):
    time.sleep(0.001)
    log.write(recipe.digest + "\\n")
    return scored(formula(recipe))
items, evaluator = Items("one", (Item("h", " h"),)), get_evaluator("likelihood")
with Ledger(home / "ledger.sqlite") as ledger:
    print("ready", flush=True)
    run(
        home / "journal.log",
        lambda recipe: score_once(ledger, recipe.digest, evaluator, items, lambda: score(recipe)),
        trials=120,
    )
print("done", flush=True)
"""


def test_killed_at_random_moments_it_ends_where_it_would_have_ended(tmp_path):
    """SIGKILL in the middle of asking, scoring, keeping, appending: nothing lost, nothing scored twice."""
    dice = random.Random(11)
    home = tmp_path / "killed"
    home.mkdir()
    command = [sys.executable, "-c", DRIVER.format(tests=str(Path(__file__).parent)), str(home)]
    whole = run(tmp_path / "whole.log", trials=120)
    kills = 0
    while True:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "ready\n"
        if kills < 9:
            time.sleep(dice.uniform(0.0, 0.05))
            process.send_signal(signal.SIGKILL)
            kills += 1
        said = process.stdout.read()
        process.wait()
        process.stdout.close()
        if said == "done\n":
            break
        so_far = [line for line in (home / "journal.log").read_bytes().split(b"\n") if line]
        assert len(so_far) <= 121
    assert kills == 9
    assert essence(run(home / "journal.log", trials=120)) == essence(whole)
    asked = (home / "scored.log").read_text().split()
    # a kill between the end of scoring and the ledger's entry may cost one scoring, never a recorded one
    assert len(set(asked)) == 120
    assert len(asked) <= 120 + kills
