"""An asynchronous search killed with SIGKILL: it goes on with what was out, and loses no trial."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

from mergery.evolve.record import Record
from mergery.evolve.trial import Trial
from misbehaving import EXAM, SPACE, OpenFormula, formula, search_formula

TESTS = Path(__file__).resolve().parents[3]
TRIALS = 60

DRIVER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from misbehaving import OpenFormula, search_formula
if __name__ == "__main__":
    home, workers, trials = Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    search_formula(home, OpenFormula(home / "log", 0.03), workers=workers, trials=trials)
"""


def start(home: Path, workers: int) -> subprocess.Popen[bytes]:
    (home / "driver.py").write_text(DRIVER)
    return subprocess.Popen(
        [sys.executable, home / "driver.py", TESTS, home, str(workers), str(TRIALS)], stderr=subprocess.PIPE
    )


def asked(home: Path) -> list[str]:
    return (home / "log").read_text().splitlines() if (home / "log").exists() else []


def recorded(home: Path) -> tuple[Trial, ...]:
    return Record(
        home / "journal.log", "study", directions=("maximize",), names=SPACE.names, domains=SPACE.domains
    ).trials()


def test_killed_and_continued_it_loses_no_trial_and_repeats_at_most_what_was_out(tmp_path):
    dice = random.Random(3)
    kills: list[tuple[int, int, tuple[Trial, ...]]] = []
    for workers in (3, 2):
        with start(tmp_path, workers) as process:
            goal = len(asked(tmp_path)) + dice.randint(8, 20)
            while len(asked(tmp_path)) < goal:
                assert process.poll() is None, process.stderr.read()
                time.sleep(0.002)
            time.sleep(dice.uniform(0.0, 0.03))
            process.kill()
        ended = tuple(trial for trial in recorded(tmp_path) if trial.told is not None)
        kills.append((workers, len(asked(tmp_path)), ended))
    with start(tmp_path, 3) as process:
        _, complained = process.communicate()
        assert process.returncode == 0, complained

    trials = recorded(tmp_path)
    assert [trial.number for trial in trials] == list(range(TRIALS))
    assert sorted(trial.told for trial in trials) == list(range(TRIALS))
    for trial in trials:
        assert trial.items in EXAM.ends
        if trial.whole:
            assert trial.score == formula(SPACE.candidate(trial.genome).recipe).mean(dtype="float64")
    for workers, mark, ended in kills:
        assert ended
        assert [trials[trial.number] for trial in ended] == list(ended)
        before, after = ({line.split()[0] for line in part} for part in split(asked(tmp_path), mark))
        assert not after & {trial.recipe for trial in ended}
        assert len(before & after) <= workers
    # the record and the ledger alone lead to the same place: nothing is asked
    assert search_formula(tmp_path, OpenFormula(tmp_path / "none"), workers=2, trials=TRIALS) == trials
    assert not (tmp_path / "none").exists()


def split(lines: list[str], mark: int) -> tuple[list[str], list[str]]:
    return lines[:mark], lines[mark:]
