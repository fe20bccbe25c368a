from __future__ import annotations

import numpy as np
import pytest

from mergery.errors import StudyError
from mergery.evolve.ledger import Entry, Ledger, ledger_key


def test_outcomes_come_back_bit_for_bit(tmp_path):
    outcomes = np.array([0.1, np.nan, -np.inf, 1e-45, 1.0], dtype=np.float32)
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        ledger.put("k", Entry(outcomes, 0.25, 1 / 3))
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        found = ledger.get("k")
        assert found is not None
        assert found.outcomes.tobytes() == outcomes.tobytes()
        assert (found.build_seconds, found.score_seconds) == (0.25, 1 / 3)
        assert ledger.get("other") is None


def test_the_first_entry_stays(tmp_path):
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        for value in (1.0, 2.0):
            ledger.put("k", Entry(np.array([value], dtype=np.float32), 0.0, 0.0))
        assert ledger.get("k").outcomes.tolist() == [1.0]


def test_what_is_no_ledger_is_refused(tmp_path):
    path = tmp_path / "ledger.sqlite"
    path.write_text("this is not a database, however long it may be" * 100)
    with pytest.raises(StudyError, match="cannot be used"):
        Ledger(path)


def test_keys_keep_their_parts_apart():
    assert ledger_key("a", "bc") != ledger_key("ab", "c")
    assert ledger_key("a", "b") == ledger_key("a", "b")
