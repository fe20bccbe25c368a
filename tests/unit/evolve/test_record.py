from __future__ import annotations

import dataclasses
import itertools
import os
import shutil
import time
from pathlib import Path

import pytest

from mergery.errors import StudyError
from mergery.evolve.record import Record
from mergery.evolve.trial import Trial, best_trial, best_trials

DOMAINS = ((-0.5, 3.0), (0.0, 1.0), ("ties", "dare_ties"))


def opened(path, name="study", directions=("maximize",)):
    return Record(path, name, directions=directions, names=("a", "b", "method"), domains=DOMAINS)


def trial(number, score=0.5, **more):
    """A trial that has ended; it failed if it has no score."""
    genome = (0.1 + number / 3, 1 / (number + 1), ("ties", "dare_ties")[number % 2])
    seconds = {"build_seconds": 0.1, "score_seconds": 0.2, "overhead_seconds": 1 / 3}
    ended = {"asked_after": number, "told": number, "items": 20, "whole": True, "cost": 20}
    if score is None:
        ended |= {"failure": "a reason", "items": 0, "whole": False, "cost": 2}
    else:
        ended |= {"score": score, "values": (score,)}
    fields = {"recipe": f"r{number}"} | ended | seconds | more
    return Trial(number, genome, "cma-es", **fields)


def running(ended):
    """A trial as it was before it ended."""
    return Trial(ended.number, ended.genome, ended.origin, ended.recipe, ended.asked_after)


def add(record, ended):
    record.begin(running(ended))
    record.finish(ended)


SOME = (trial(0, 0.1 + 0.2), trial(1, None), trial(2, -1e-17))


@pytest.fixture
def journal(tmp_path):
    path = tmp_path / "journal.log"
    record = opened(path)
    for ended in SOME:
        add(record, ended)
    return path


def test_trials_come_back_bit_for_bit(journal):
    assert opened(journal).trials() == SOME


@pytest.mark.parametrize(
    "ended",
    [
        trial(0, 0.3, items=4, whole=False, cost=4),
        trial(0, 0.3, gradient=(0.1 + 0.2, -1e-300, 0.0), cost=60),
        Trial(0, None, "reference: ties", "r", 0, 0, 0.5, (0.5,), 20, True, 20),
        Trial(0, None, "reference: ties", failure="it does not fit", told=0, cost=20),
    ],
)
def test_every_kind_of_trial_comes_back(tmp_path, ended):
    add(opened(tmp_path / "j.log"), ended)
    assert opened(tmp_path / "j.log").trials() == (ended,)


def test_several_objectives_come_back(tmp_path):
    directions, ended = ("maximize", "minimize"), trial(0, 0.2, values=(0.1 + 0.2, -1e-17))
    add(opened(tmp_path / "j.log", directions=directions), ended)
    assert opened(tmp_path / "j.log", directions=directions).trials() == (ended,)


def test_trials_end_in_any_order_and_some_are_still_out(tmp_path):
    record = opened(tmp_path / "j.log")
    told = {3: 0, 0: 1, 2: 2}
    whole = [trial(number, asked_after=0) for number in range(5)]
    for ended in whole:
        record.begin(running(ended))
    for number, place in told.items():
        record.finish(dataclasses.replace(whole[number], told=place))
    expected = [
        dataclasses.replace(ended, told=told[ended.number]) if ended.number in told else running(ended)
        for ended in whole
    ]
    assert opened(tmp_path / "j.log").trials() == record.trials() == tuple(expected)


def test_two_writers_are_noticed(journal):
    one, other = opened(journal), opened(journal)
    one.begin(running(trial(3)))
    with pytest.raises(StudyError, match="trial 3: another process wrote trial 4"):
        other.begin(running(trial(3)))


def test_opening_again_writes_nothing(journal):
    before = journal.read_bytes()
    opened(journal).trials()
    assert journal.read_bytes() == before


def test_a_line_cut_anywhere_costs_that_step_only(journal, tmp_path):
    """The last trial's three lines: asked for, told, ended."""
    content = journal.read_bytes()
    ends = [at + 1 for at, byte in enumerate(content) if byte == 10][-4:]
    assert ends[-1] == len(content)
    for first, last in itertools.pairwise(ends):
        for cut in (*range(first, last, 41), first + 1, last - 2, last - 1):
            torn = tmp_path / "torn.log"
            torn.write_bytes(content[:cut])
            record = opened(torn)
            if first == ends[0]:
                assert record.trials() == SOME[:2]
                record.begin(running(SOME[2]))
            assert record.trials() == (*SOME[:2], running(SOME[2]))
            record.finish(SOME[2])
            assert opened(torn).trials() == SOME


def test_a_first_line_cut_short_is_a_new_study(journal, tmp_path):
    first = journal.read_bytes().index(b"\n")
    for cut in (0, 1, first - 1, first):
        torn = tmp_path / f"torn{cut}.log"
        torn.write_bytes(journal.read_bytes()[:cut])
        assert opened(torn).trials() == ()


def test_zeros_at_the_end_after_a_power_cut(journal):
    content = journal.read_bytes()
    journal.write_bytes(content + b"\0" * 100 + b"\n")
    assert len(opened(journal).trials()) == 3
    assert journal.read_bytes() == content


def test_damage_before_the_end_is_an_error(journal):
    lines = journal.read_bytes().split(b"\n")
    journal.write_bytes(b"\n".join([lines[0], lines[1][:20], *lines[2:]]))
    with pytest.raises(StudyError, match=r"journal\.log:2: not a line of a journal"):
        opened(journal)


def test_a_dead_process_lock_is_broken_at_once(journal):
    # what Optuna leaves when it is killed in the middle of an append
    Path(f"{journal}.lock").symlink_to(journal)
    begin = time.monotonic()
    record = opened(journal)
    add(record, trial(3))
    assert time.monotonic() - begin < 5
    assert not os.path.lexists(f"{journal}.lock")
    assert len(opened(journal).trials()) == 4


def test_the_working_directory_does_not_matter(journal, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    record = opened(journal.relative_to(tmp_path))
    monkeypatch.chdir("/")
    add(record, trial(3))
    assert len(record.trials()) == 4


def test_another_study_is_refused(journal):
    before = journal.read_bytes()
    with pytest.raises(StudyError, match="holds the record of another search"):
        opened(journal, "other")
    assert journal.read_bytes() == before


def test_optuna_reads_the_journal(journal):
    import optuna

    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(journal)))
    study = optuna.load_study(study_name="study", storage=storage)
    assert study.best_value == 0.1 + 0.2
    assert study.best_params == {"a": 0.1, "b": 1.0, "method": "ties"}
    assert [str(found.state.name) for found in study.trials] == ["COMPLETE", "FAIL", "COMPLETE"]


def test_optunas_announcements_are_kept_back(tmp_path, capfd):
    add(opened(tmp_path / "new.log"), trial(0))
    assert capfd.readouterr() == ("", "")


def test_the_best_trial_is_the_earliest_of_equals():
    given_up = trial(5, 0.9, items=2, whole=False)
    trials = [trial(0, 0.5), trial(1, None), trial(2, 0.7), trial(3, 0.7), trial(4, 0.1), given_up]
    assert best_trial(trials, "maximize").number == 2
    assert best_trial(trials, "minimize").number == 4
    assert best_trial([trial(0, None)], "maximize") is None
    assert best_trial([given_up, running(trial(6))], "maximize") is None


def test_the_best_trials_are_different_recipes():
    scores = [0.5, 0.7, 0.7, 0.9, None, 0.1]
    recipes = ["a", "b", "c", "a", "d", "e"]
    trials = [trial(n, s, recipe=r) for n, (s, r) in enumerate(zip(scores, recipes, strict=True))]
    assert [found.number for found in best_trials(trials, "maximize", 9)] == [3, 1, 2, 5]
    assert [found.number for found in best_trials(trials[::-1], "maximize", 2)] == [3, 1]
    assert [found.number for found in best_trials(trials, "minimize", 3)] == [5, 0, 1]


def test_a_copied_record_goes_on_elsewhere(journal, tmp_path):
    shutil.copy(journal, tmp_path / "copy.log")
    assert opened(tmp_path / "copy.log").trials() == opened(journal).trials()
