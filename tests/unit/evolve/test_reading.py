"""What is read of a search's directory, while it runs and after."""

from __future__ import annotations

import csv
import json

import pytest

from mergery.errors import OutputError, StudyError
from mergery.evolve import SearchSpec, Trial, evolve
from mergery.evolve.home import Home
from mergery.evolve.reading import StudyReading, state_of
from mergery.evolve.record import Record
from mergery.recipe import Recipe

TRIALS = (
    Trial(
        0, None, "reference: ties", "r0", told=0, score=0.5, values=(0.5, 0.5), items=10, whole=True, cost=10
    ),
    Trial(
        1, (0.25, "ties"), "nsga2", "r1", told=2, score=0.6, values=(0.9, 0.3), items=10, whole=True, cost=10
    ),
    Trial(2, (0.5, "ties"), "nsga2", "r2", told=1, failure="not, finite", cost=1),
    Trial(3, (0.75, "linear"), "nsga2", "r3", told=3, score=0.7, values=(0.7,), items=4, cost=4),
    Trial(
        4, (0.8, "linear"), "x", "r4", told=4, score=0.9, values=(0.9,), items=5, cost=15, gradient=(0.1, 0.0)
    ),
    Trial(
        5, (1.0, "linear"), "nsga2", "r5", told=5, score=0.4, values=(0.4, 0.4), items=10, whole=True, cost=10
    ),
    Trial(6, (0.0, "linear"), "nsga2", "r6"),
)


@pytest.fixture
def out(tmp_path):
    """A search for two objectives that is still running."""
    tasks = {name: {"validation": f"{name}.v", "test": f"{name}.t"} for name in ("words", "sums")}
    spec = SearchSpec.from_dict({"recipe": {}, "search": {"trials": 9, "objectives": True}, "tasks": tasks})
    home = Home(tmp_path / "out")
    with home.claim(spec):
        record = Record(
            home.journal,
            "study",
            directions=("maximize", "maximize"),
            names=("weight", "method"),
            domains=((0.0, 1.0), ("linear", "ties")),
        )
        for trial in TRIALS:
            record.begin(trial)
        for trial in sorted(TRIALS[:-1], key=lambda trial: trial.told):
            record.finish(trial)
    return home.out


def test_it_reads_what_was_written_and_writes_nothing(out):
    with Home(out).journal.open("ab") as journal:
        journal.write(b'{"op_code": 4, "wor')  # the search is amid a line
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    study = StudyReading.open(out)
    assert study.trials == TRIALS
    assert study.names == ("weight", "method")
    assert study.directions == ("maximize", "maximize")
    assert study.tasks == ("words", "sums")
    assert not study.finished
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_the_best_come_first_and_each_has_its_state(out):
    study = StudyReading.open(out)
    assert [(trial.number, state_of(trial)) for trial in study.ranked] == [
        (1, "whole"),
        (0, "whole"),
        (5, "whole"),
        (3, "given up"),
        (4, "gradient"),
        (2, "failed"),
        (6, "running"),
    ]


def test_the_front_of_a_search_that_runs(out):
    assert [trial.number for trial in StudyReading.open(out).front] == [0, 1]
    assert StudyReading.open(out).confirmed_front is None


def test_all_trials_go_into_a_table(out, tmp_path):
    StudyReading.open(out).export(tmp_path / "trials.csv")
    with (tmp_path / "trials.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["trial"] for row in rows] == [str(trial.number) for trial in TRIALS]
    assert [row["weight"] for row in rows] == ["", "0.25", "0.5", "0.75", "0.8", "1.0", "0.0"]
    assert [row["method"] for row in rows] == ["", "ties", "ties", "linear", "linear", "linear", "linear"]
    assert [row["score.words"] for row in rows] == ["0.5", "0.9", "", "", "", "0.4", ""]
    assert [row["score.sums"] for row in rows] == ["0.5", "0.3", "", "", "", "0.4", ""]
    assert rows[2]["failure"] == "not, finite"
    assert sum(int(row["item_evaluations"]) for row in rows) == sum(trial.cost for trial in TRIALS)


def test_all_trials_go_into_json(out, tmp_path):
    StudyReading.open(out).export(tmp_path / "trials.json")
    data = json.loads((tmp_path / "trials.json").read_text())
    assert [row["parameters"] for row in data[:2]] == [{}, {"weight": 0.25, "method": "ties"}]
    assert [row["score"] for row in data] == [trial.score for trial in TRIALS]
    assert data[6]["state"] == "running"


@pytest.mark.parametrize("name", ["trials.xlsx", "trials", "nowhere/trials.csv"])
def test_other_files_are_refused(out, tmp_path, name):
    with pytest.raises(OutputError, match=name):
        StudyReading.open(out).export(tmp_path / name)


def test_a_directory_without_a_search_is_told(tmp_path, out):
    with pytest.raises(StudyError, match="holds no search"):
        StudyReading.open(tmp_path)
    with pytest.raises(StudyError, match="holds no search"):
        StudyReading.open(tmp_path / "nowhere")
    (tmp_path / "both").mkdir()
    out.rename(tmp_path / "both" / "weights")
    with pytest.raises(StudyError, match=r"holds 1 of two searches\nfix: give .*both/weights"):
        StudyReading.open(tmp_path / "both")
    Home(tmp_path / "both" / "weights").search.write_text("recipe: [")
    with pytest.raises(StudyError, match="no longer a search file"):
        StudyReading.open(tmp_path / "both" / "weights")


def test_a_journal_that_is_none_is_told(out):
    Home(out).journal.write_text("hello\nworld\n")
    with pytest.raises(StudyError, match=r"journal\.log: cannot be read"):
        StudyReading.open(out)


def test_before_the_first_trial_there_is_nothing(out):
    Home(out).journal.unlink()
    study = StudyReading.open(out)
    assert (study.trials, study.front) == ((), ())
    with pytest.raises(StudyError, match="none of its 0 trials has been asked all items"):
        study.best_recipe()
    assert not Home(out).journal.exists()


def test_one_objective_has_no_front(search, tmp_path):
    spec = SearchSpec.from_dict(search)
    with Home(tmp_path / "out").claim(spec):
        pass
    with pytest.raises(StudyError, match="a search for one objective has no front"):
        _ = StudyReading.open(tmp_path / "out").front


def test_the_best_so_far_while_it_runs_and_the_confirmed_one_in_the_end(search, tmp_path):
    """Read from inside the search, whose lock is held at that moment."""
    spec, out, seen = SearchSpec.from_dict(search), tmp_path / "out", []

    def look(progress):
        study = StudyReading.open(out)
        assert sum(trial.told is not None for trial in study.trials) == progress.trial
        if progress.trial in (3, 12):
            text = study.best_recipe()
            best = max(study.trials, key=lambda trial: trial.score)
            assert text.startswith(
                f"# trial {best.number}, {best.score:.4f}: the best of {progress.trial} so far"
            )
            assert Recipe.from_yaml(text).digest == best.recipe
            seen.append(progress.trial)

    evolve(spec, out, progress=look)
    assert seen == [3, 12]
    study = StudyReading.open(out)
    assert study.finished
    assert study.best_recipe() == (out / "best.yml").read_text()
