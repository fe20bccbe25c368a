from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from mergery.errors import StudyError
from mergery.evolve.record import Record
from mergery.evolve.trial import Trial, best_trial

BOUNDS = ((-0.5, 3.0), (0.0, 1.0))


def opened(path, name="study", direction="maximize"):
    return Record(path, name, direction=direction, names=("a", "b"), bounds=BOUNDS)


def trial(number, score=0.5):
    failure = "a reason" if score is None else None
    return Trial(number, (0.1 + number / 3, 1 / (number + 1)), score, failure, f"r{number}", 0.1, 0.2, 1 / 3)


@pytest.fixture
def journal(tmp_path):
    path = tmp_path / "journal.log"
    record = opened(path)
    for number, score in enumerate([0.1 + 0.2, None, -1e-17]):
        record.add(trial(number, score))
    return path


def test_trials_come_back_bit_for_bit(journal):
    expected = (trial(0, 0.1 + 0.2), trial(1, None), trial(2, -1e-17))
    assert opened(journal).trials() == expected


def test_opening_again_writes_nothing(journal):
    before = journal.read_bytes()
    opened(journal).trials()
    assert journal.read_bytes() == before


def test_a_line_cut_anywhere_costs_that_trial_only(journal, tmp_path):
    content = journal.read_bytes()
    last = content.rindex(b"\n", 0, -1) + 1
    for cut in (*range(last, len(content), 41), last + 1, len(content) - 2, len(content) - 1):
        torn = tmp_path / "torn.log"
        torn.write_bytes(content[:cut])
        record = opened(torn)
        assert [found.number for found in record.trials()] == [0, 1]
        record.add(trial(2))
        assert opened(torn).trials() == (trial(0, 0.1 + 0.2), trial(1, None), trial(2))


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
    record.add(trial(3))
    assert time.monotonic() - begin < 5
    assert not os.path.lexists(f"{journal}.lock")
    assert len(opened(journal).trials()) == 4


def test_the_working_directory_does_not_matter(journal, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    record = opened(journal.relative_to(tmp_path))
    monkeypatch.chdir("/")
    record.add(trial(3))
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
    assert study.best_params == {"a": 0.1, "b": 1.0}


def test_optunas_announcements_are_kept_back(tmp_path, capfd):
    opened(tmp_path / "new.log").add(trial(0))
    assert capfd.readouterr() == ("", "")


def test_the_best_trial_is_the_earliest_of_equals():
    trials = [trial(0, 0.5), trial(1, None), trial(2, 0.7), trial(3, 0.7), trial(4, 0.1)]
    assert best_trial(trials, "maximize").number == 2
    assert best_trial(trials, "minimize").number == 4
    assert best_trial([trial(0, None)], "maximize") is None


def test_a_copied_record_goes_on_elsewhere(journal, tmp_path):
    shutil.copy(journal, tmp_path / "copy.log")
    assert opened(tmp_path / "copy.log").trials() == opened(journal).trials()
