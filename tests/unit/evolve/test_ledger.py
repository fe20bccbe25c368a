from __future__ import annotations

import multiprocessing
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from mergery.errors import StudyError
from mergery.evolve.ledger import Answers, Ledger, ledger_key


def answers(*outcomes: float, smooth: float = 0.0) -> Answers:
    column = np.array(outcomes, dtype=np.float32)
    return Answers(column, np.full_like(column, smooth))


def test_answers_come_back_bit_for_bit(tmp_path):
    # a third and the smallest number need all their bits; SQLite has no NaN of its own
    outcomes = np.array([1 / 3, np.nan, -np.inf, np.inf, 1e-45, 1.0, 0.0], dtype=np.float32)
    smooth = np.array([-0.1, np.nan, -1e30, 2.0, np.inf, -np.inf, 1e-38], dtype=np.float32)
    items = [f"item {number}" for number in range(7)]
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.keep("m", "e", items, Answers(outcomes, smooth))
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        found = ledger.find("m", "e", items)
        assert found is not None
        assert found.outcomes.dtype == found.smooth.dtype == np.float32
        np.testing.assert_array_equal(found.outcomes, outcomes)
        np.testing.assert_array_equal(found.smooth, smooth)


def test_any_part_in_any_order_is_known_but_no_more_than_was_asked():
    with Ledger() as ledger:
        ledger.keep("m", "e", ["a", "b"], answers(1, 2, smooth=-1))
        ledger.keep("m", "e", ["c"], answers(3, smooth=-2))
        found = ledger.find("m", "e", ["c", "a", "b"])
        assert (found.outcomes.tolist(), found.smooth.tolist()) == ([3, 1, 2], [-2, -1, -1])
        assert ledger.find("m", "e", ["b"]).outcomes.tolist() == [2]
        assert ledger.find("m", "e", ["a", "d"]) is None
        assert ledger.find("other", "e", ["a"]) is None
        assert ledger.find("m", "other", ["a"]) is None
        assert len(ledger.find("m", "e", []).outcomes) == 0


def test_the_first_answer_stays():
    with Ledger() as ledger:
        ledger.keep("m", "e", ["a"], answers(1))
        ledger.keep("m", "e", ["a", "b"], answers(2, 2))
        assert ledger.find("m", "e", ["a", "b"]).outcomes.tolist() == [1, 2]


def test_what_does_not_fit_is_not_kept_in_part():
    with Ledger() as ledger:
        with pytest.raises(ValueError, match="shorter"):
            ledger.keep("m", "e", ["a", "b", "c"], answers(1, 2))
        assert ledger.find("m", "e", ["a"]) is None
        # and the ledger can still be used
        ledger.keep("m", "e", ["a"], answers(1))
        assert ledger.find("m", "e", ["a"]) is not None


def test_what_is_no_ledger_is_refused(tmp_path):
    path = tmp_path / "ledger.sqlite"
    path.write_text("this is not a database, however long it may be" * 100)
    with pytest.raises(StudyError, match="cannot be used"):
        Ledger(path)


def work(path: Path, worker: int, start: object) -> None:
    start.wait()
    items = [f"item {number}" for number in range(40)]
    with Ledger(path) as ledger:
        for model in range(20):
            ledger.keep(f"model {model}", "e", items, answers(*[worker] * 40))
            found = ledger.find(f"model {model}", "e", items)
            # another worker may have been first, but never with a part of its answers
            assert found is not None
            assert len(dict.fromkeys(found.outcomes.tolist())) == 1
        ledger.keep(f"model of {worker}", "e", items, answers(*[worker] * 40))


def test_several_processes_write_at_the_same_time(tmp_path):
    path, context = tmp_path / "ledger.sqlite", multiprocessing.get_context("spawn")
    start = context.Barrier(2)
    workers = [context.Process(target=work, args=(path, number, start)) for number in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    with Ledger(path) as ledger:
        for number in range(2):
            assert set(ledger.find(f"model of {number}", "e", ["item 7"]).outcomes.tolist()) == {number}
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT count(*) FROM outcomes").fetchone() == (22 * 40,)
    connection.close()


def test_keys_keep_their_parts_apart():
    assert ledger_key("a", "bc") != ledger_key("ab", "c")
    assert ledger_key("a", "b") == ledger_key("a", "b")
