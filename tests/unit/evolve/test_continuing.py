"""Searches that are stopped, or killed for real, and go on where they would have gone."""

from __future__ import annotations

import multiprocessing
import random
import time
from pathlib import Path

import pytest

from mergery.errors import StudyError
from mergery.evolve import SearchSpace
from mergery.evolve.ledger import Ledger
from mergery.evolve.record import Record
from unit.evolve.formulas import SPACE, Formula, bowl
from unit.evolve.studies import best, essence, run

pytestmark = pytest.mark.usefixtures("no_waiting_for_the_disk")


@pytest.mark.parametrize("algorithm", ["cma-es", "random", "tpe"])
@pytest.mark.parametrize("stop", [0, 1, 6, 7, 29])
def test_stopped_and_continued_is_the_same_as_not_stopped(tmp_path, stop, algorithm):
    """The second run has an empty ledger: what the record needs is asked again."""
    whole = run(tmp_path / "whole.log", algorithm=algorithm, racing=True)
    if stop:
        run(tmp_path / "parts.log", trials=stop, algorithm=algorithm, racing=True)
    assert essence(run(tmp_path / "parts.log", algorithm=algorithm, racing=True)) == essence(whole)
    assert any(not trial.whole for trial in whole)


def test_what_is_told_is_not_asked_again(tmp_path):
    formula = Formula()
    with Ledger(tmp_path / "l.sqlite") as ledger:
        first = run(tmp_path / "j.log", formula, trials=10, racing=True, ledger=ledger)
        spent = len(formula.asked)
        assert spent == sum(trial.cost for trial in first)
        run(tmp_path / "j.log", formula, trials=10, racing=True, ledger=ledger)
        assert len(formula.asked) == spent
        more = run(tmp_path / "j.log", formula, trials=15, racing=True, ledger=ledger)
    assert len(formula.asked) == sum(trial.cost for trial in more)
    assert more[:10] == first


@pytest.mark.parametrize("racing", [False, True])
def test_several_at_a_time_in_any_order_are_continued_from_any_cut(tmp_path, racing):
    """The journal is cut after every fourth line; trials that were out are sent out again, as they were."""
    launchers = []
    whole = run(tmp_path / "whole.log", slots=4, racing=racing, launchers=launchers)
    assert launchers[0].most == 4
    told = sorted(whole, key=lambda trial: trial.told)
    assert [trial.number for trial in told] == launchers[0].ended != sorted(launchers[0].ended)
    # who is asked for knows of all that were told by then, and of no more
    assert all(trial.asked_after == sum(other.told < trial.asked_after for other in whole) for trial in whole)
    assert all(0 <= trial.number - trial.asked_after < 4 for trial in whole)
    assert any(not trial.whole for trial in whole) == racing

    lines = (tmp_path / "whole.log").read_bytes().splitlines(keepends=True)
    assert len(lines) == 1 + 3 * 30
    left_out = 0
    for cut in range(1, len(lines), 4):
        path = tmp_path / f"cut{cut}.log"
        path.write_bytes(b"".join(lines[:cut]))
        record = Record(path, "study", directions=("maximize",), names=SPACE.names, domains=SPACE.domains)
        left_out += any(trial.told is None for trial in record.trials())
        assert essence(run(path, slots=4, racing=racing)) == essence(whole)
    assert left_out > 15


def test_fewer_slots_finish_what_more_began(tmp_path):
    run(tmp_path / "j.log", trials=12, slots=6)
    lines = (tmp_path / "j.log").read_bytes().splitlines(keepends=True)
    (tmp_path / "j.log").write_bytes(b"".join(lines[:7]))  # six trials are out
    launchers = []
    trials = run(tmp_path / "j.log", trials=12, slots=2, launchers=launchers)
    assert launchers[0].most == 2
    assert sorted(launchers[0].ended) == list(range(12))
    assert all(trial.whole for trial in trials)


def test_another_seeds_record_is_not_continued(tmp_path):
    run(tmp_path / "j.log", trials=3, seed=1)
    before = (tmp_path / "j.log").read_bytes()
    with pytest.raises(StudyError, match="trial 0: recorded at"):
        run(tmp_path / "j.log", trials=5, seed=2)
    assert (tmp_path / "j.log").read_bytes() == before


def test_methods_are_recorded_and_replayed(tmp_path):
    import optuna

    data = dict(SPACE.skeleton) | {"merge_method": {"search": ["task_arithmetic", "ties", "model_stock"]}}
    space = SearchSpace.open(data)

    def outcome(recipe, item):
        weights = [source.parameters.get("weight", 0.0) for source in recipe.slices[0].sources]
        return (recipe.merge_method == "ties") - sum((weight - 0.7) ** 2 for weight in weights)

    whole = run(tmp_path / "whole.log", Formula(outcome), space=space, algorithm="random")
    assert {trial.genome[0] for trial in whole} == {"task_arithmetic", "ties", "model_stock"}
    assert best(whole).genome[0] == "ties"
    run(tmp_path / "parts.log", Formula(outcome), space=space, algorithm="random", trials=11)
    parts = run(tmp_path / "parts.log", Formula(outcome), space=space, algorithm="random")
    assert essence(parts) == essence(whole)
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "whole.log"))
    study = optuna.load_study(study_name="study", storage=optuna.storages.JournalStorage(backend))
    choice = optuna.distributions.CategoricalDistribution(("task_arithmetic", "ties", "model_stock"))
    assert study.trials[0].distributions["merge_method"] == choice
    assert study.best_params["merge_method"] == "ties"


def search_slowly(home: Path) -> None:
    """What is killed: a search that writes down what it asks."""

    def outcome(recipe, item):
        time.sleep(0.0002)
        log.write(f"{recipe.digest} {item.hash}\n")
        return bowl(recipe, item)

    with (home / "asked.log").open("a", buffering=1) as log, Ledger(home / "ledger.sqlite") as ledger:
        run(home / "journal.log", Formula(outcome), trials=100, racing=True, ledger=ledger)


def test_killed_at_random_moments_it_ends_where_it_would_have_ended(tmp_path):
    """SIGKILL in the middle of asking, scoring, keeping, appending: nothing lost, nothing asked twice."""
    dice, context = random.Random(11), multiprocessing.get_context("fork")
    whole = run(tmp_path / "whole.log", trials=100, racing=True)
    home = tmp_path / "killed"
    home.mkdir()
    kills, known, cut_short = 0, [], 0
    while True:
        process = context.Process(target=search_slowly, args=(home,))
        process.start()
        process.join(dice.uniform(0.01, 0.1) if kills < 20 else None)
        if process.exitcode == 0:
            break
        process.kill()
        process.join()
        kills += 1
        trials = Record(
            home / "journal.log", "study", directions=("maximize",), names=SPACE.names, domains=SPACE.domains
        ).trials()
        assert essence(trials)[: len(known)] == known
        known = essence(trial for trial in trials if trial.told is not None)
        assert len(trials) - len(known) <= 1
        cut_short += len(known) < len(trials)
    assert kills > 5
    assert cut_short
    assert essence(run(home / "journal.log", trials=100, racing=True)) == essence(whole)
    asked = (home / "asked.log").read_text().splitlines()
    # a kill before the ledger's entry may cost the answers to one rung, never recorded ones
    assert len(dict.fromkeys(asked)) == sum(trial.cost for trial in whole)
    assert len(asked) - len(dict.fromkeys(asked)) <= 6 * kills
