"""Trials in real processes, which are killed, hang, or answer nonsense."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from mergery.errors import CheckpointError, DeviceError, MissingExtraError, WorkerError
from mergery.evolve import SearchSettings
from mergery.evolve.examiner import Examiner
from mergery.evolve.launchers import InlineLauncher, Job, check_launcher, choose_launcher, places
from mergery.evolve.launchers.processes import ProcessLauncher
from mergery.evolve.launchers.worker import Place
from mergery.evolve.ledger import Ledger
from mergery.evolve.race import Race
from misbehaving import EXAM, SPACE, Formula, OpenFormula, formula

CPU = Place("cpu")
TESTS = Path(__file__).resolve().parents[3]


@pytest.fixture(autouse=True)
def nothing_left_running():
    yield
    assert not multiprocessing.active_children()


@pytest.fixture
def examiner(tmp_path):
    """Of this process; it has no models, so that whatever is not in the ledger could not be asked."""
    with Ledger(tmp_path / "ledger.sqlite") as ledger:
        yield Examiner(None, EXAM, ledger, "inputs")


def candidate(number: int):
    dice = random.Random(number)
    return SPACE.candidate(tuple(dice.uniform(-0.5, 3.0) for _ in range(3)))


def asked(log: Path) -> list[str]:
    return log.read_text().splitlines() if log.exists() else []


def test_jobs_are_done_by_several_at_a_time_and_kept(tmp_path, examiner):
    log = tmp_path / "log"
    with ProcessLauncher(examiner, OpenFormula(log, 0.2), [CPU] * 2) as launcher:
        assert launcher.slots == 2
        for number in range(4):
            launcher.submit(Job(number, candidate(number)))
        ended = {finished.number: finished for finished in (launcher.next() for _ in range(4))}
    assert sorted(ended) == [0, 1, 2, 3]
    for number, finished in ended.items():
        np.testing.assert_array_equal(finished.examined.outcomes, formula(candidate(number).recipe))
        known = examiner.known(candidate(number))
        np.testing.assert_array_equal(known.outcomes, finished.examined.outcomes)
    assert len(asked(log)) == 8  # two rungs each


def test_what_the_ledger_knows_is_not_asked_again(tmp_path, examiner):
    log, best = tmp_path / "log", np.full(8, -9.0, np.float32)
    hopeless = Race(best)  # after the first rung they are given up
    with ProcessLauncher(examiner, OpenFormula(log), [CPU]) as launcher:
        launcher.submit(Job(0, candidate(0), hopeless))
        assert len(launcher.next().examined.outcomes) == 2
        assert len(examiner.known(candidate(0)).outcomes) == 2
        launcher.submit(Job(1, candidate(0)))
        assert len(launcher.next().examined.outcomes) == 8
        launcher.submit(Job(2, candidate(0)))
        assert len(launcher.next().examined.outcomes) == 8
    digest = candidate(0).recipe.digest
    assert asked(log) == [f"{digest} 2", f"{digest} 8"]


def test_candidates_that_kill_or_hang_or_trip_over_themselves_have_failed(tmp_path, examiner):
    ways = {
        "": None,
        "kill": "its worker was killed by SIGKILL: memory may have run out",
        "hang": "no end within 4 s (search.timeout)",
        "exit": "its worker ended with exit code 3",
        "nan": "the merged model's outputs are not finite",
        "error": "ValueError: no number in '' (misbehaving.py:",
        "division": "division by zero",
    }
    spread = [way for way in ways for _ in range(256 // len(ways))]
    spread += [""] * (256 - len(spread))
    with ProcessLauncher(examiner, OpenFormula(tmp_path / "log", 0.0, spread), [CPU] * 2, 4.0) as launcher:
        numbers = first_of_each(spread)
        for number in numbers:
            launcher.submit(Job(number, candidate(number)))
        ended = {finished.number: finished for finished in (launcher.next() for _ in numbers)}
    assert len(ended) == len(ways)
    for number, way in numbers.items():
        failure = ended[number].failure
        assert failure == ways[way] or (ways[way] and failure.startswith(ways[way]))
        assert (ended[number].examined is None) == bool(way)


def first_of_each(spread) -> dict[int, str]:
    """The first candidate for which each thing goes wrong."""
    found: dict[str, int] = {}
    for number in range(2000):
        found.setdefault(spread[int(candidate(number).recipe.digest[:2], 16)], number)
    return {number: way for way, number in found.items()}


def test_what_is_not_the_candidates_fault_is_raised_here(tmp_path, examiner):
    opening = OpenFormula(tmp_path / "log", ways=["disk"])
    with ProcessLauncher(examiner, opening, [CPU]) as launcher:
        launcher.submit(Job(0, candidate(0)))
        with pytest.raises(CheckpointError, match="the disk is gone") as error:
            launcher.next()
    assert error.value.fix == "mount it"


@pytest.mark.parametrize(
    ("way", "error", "says"),
    [
        ("disk", CheckpointError, "the disk is gone"),
        ("error", WorkerError, "could not open the search: ValueError: no number"),
        ("kill", WorkerError, "ended before .*: it was killed by SIGKILL: memory may have run out"),
    ],
)
def test_a_worker_that_cannot_begin_ends_the_search(tmp_path, examiner, way, error, says):
    with ProcessLauncher(examiner, OpenFormula(tmp_path / "log", way=way), [CPU]) as launcher:
        launcher.submit(Job(0, candidate(0)))
        with pytest.raises(error, match=says):
            launcher.next()


def test_what_cannot_travel_is_said_at_once(examiner):
    with pytest.raises(WorkerError, match="cannot be sent to other processes"):
        ProcessLauncher(examiner, lambda place, ledger: None, [CPU])


def test_what_evaluators_begin_ends_with_a_worker_that_hangs(tmp_path, examiner):
    with ProcessLauncher(examiner, BeginsOthers(tmp_path / "pid"), [CPU], 1.0) as launcher:
        launcher.submit(Job(0, candidate(0)))
        assert launcher.next().failure == "no end within 1 s (search.timeout)"
    gone(int((tmp_path / "pid").read_text()))


SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from misbehaving import EXAM, SPACE, OpenFormula
from mergery.evolve.examiner import Examiner
from mergery.evolve.launchers import Job
from mergery.evolve.launchers.processes import ProcessLauncher
from mergery.evolve.launchers.worker import Place
from mergery.evolve.ledger import Ledger

def main():
    opening = OpenFormula(Path(sys.argv[2]), ways=["hang", "hold"])
    with ProcessLauncher(Examiner(None, EXAM, Ledger(), "inputs"), opening, [Place("cpu")] * 3) as launcher:
        for number in range(12):
            launcher.submit(Job(number, SPACE.candidate((number / 20, 0.0, 0.0))))
        launcher.next()

"""


def script(tmp_path: Path, end: str) -> subprocess.Popen[str]:
    file = tmp_path / "script.py"
    file.write_text(SCRIPT + end)
    command = [sys.executable, file, TESTS, tmp_path / "log"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_the_process_that_began_them(tmp_path, number):
    with script(tmp_path, "if __name__ == '__main__':\n    main()") as caller:
        until = time.monotonic() + 30
        while (
            len(asked(tmp_path / "log")) < 3
        ):  # all are hanging, some of them in a way that stops all threads
            assert caller.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)
        workers = Path(f"/proc/{caller.pid}/task/{caller.pid}/children").read_text().split()
        assert len(workers) >= 3
        caller.send_signal(number)
        _, complained = caller.communicate()
    for worker in workers:
        gone(int(worker))
    assert complained.count("Traceback") == (number == signal.SIGINT)  # of the one who was asked to stop


def test_a_script_that_does_not_guard_its_main_part_is_told_so(tmp_path):
    with script(tmp_path, "main()") as caller:
        _, complained = caller.communicate()
    assert caller.returncode == 1
    assert (
        "WorkerError: a worker ended before it had opened the models: it ended with exit code 1" in complained
    )
    assert 'fix: a script calls evolve below `if __name__ == "__main__":`' in complained


@pytest.mark.parametrize("workers", [1, 3])
def test_workers_share_out_the_processors(workers):
    found = places("cpu", workers)
    assert [place.device for place in found] == ["cpu"] * workers
    assert all(place.threads == max(1, len(os.sched_getaffinity(0)) // workers) for place in found)


def test_one_worker_is_this_process_unless_a_candidate_may_hang(examiner, tmp_path):
    opening = OpenFormula(tmp_path / "log")
    inline = choose_launcher(SearchSettings(trials=1), "cpu", examiner, opening)
    assert isinstance(inline, InlineLauncher)
    for settings in (SearchSettings(trials=1, timeout=3.0), SearchSettings(trials=1, workers=2)):
        with choose_launcher(settings, "cpu", examiner, opening) as launcher:
            assert isinstance(launcher, ProcessLauncher)
            assert launcher.slots == settings.workers


def test_what_is_not_there_is_said_before_anything_begins():
    with pytest.raises(DeviceError, match="cannot be used"):
        check_launcher(SearchSettings(workers=2), "cuda:99")
    if find_spec("ray") is None:
        with pytest.raises(MissingExtraError, match=r"search\.launcher: ray") as error:
            check_launcher(SearchSettings(launcher="ray"), "cpu")
        assert error.value.fix == "pip install 'mergery[ray]'"


class BeginsOthers:
    def __init__(self, file: Path) -> None:
        self.file = file

    def __call__(self, place, ledger):
        return BeginningFormula(self.file)


class BeginningFormula(Formula):
    def examine(self, candidate, hope=None):
        with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
            self.log.write_text(str(process.pid))
            process.wait()


def gone(pid: int, seconds: float = 2.0) -> None:
    until = time.monotonic() + seconds
    while Path(f"/proc/{pid}").exists() and "(zombie)" not in Path(f"/proc/{pid}/status").read_text():
        assert time.monotonic() < until, f"process {pid} lives"
        time.sleep(0.02)
