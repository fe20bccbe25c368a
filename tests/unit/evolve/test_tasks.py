"""Items that are held back, and items that must not meet."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import pytest

from mergery.errors import DataError
from mergery.evaluate import load_items
from mergery.evolve import TaskSpec
from mergery.evolve.race import RUNGS
from mergery.evolve.tasks import CONFIRM_RUNGS, exams, load_tasks


@pytest.fixture
def write(tmp_path):
    """Writes a file of items with these numbers."""

    def write(name: str, *numbers: int, prompt: str = "item {}") -> Path:
        path = tmp_path / f"{name}.jsonl"
        lines = [json.dumps({"prompt": prompt.format(number), "answer": " x"}) + "\n" for number in numbers]
        path.write_text("".join(lines))
        return path

    return write


def prompts(items):
    return [item.prompt for item in items]


@pytest.mark.parametrize(
    ("share", "count", "held"), [(0.25, 40, 10), (0.5, 7, 4), (0.1, 6, 1), (0.9, 10, 9), (0.34, 3, 1)]
)
def test_a_share_is_held_back(write, share, count, held):
    files = write("validation", *range(count)), write("test", *range(100, 110))
    (task,) = load_tasks({"task": TaskSpec(*files, confirm=share)})
    assert (len(task.search), len(task.confirm)) == (count - held, held)
    assert sorted(prompts(task.search) + prompts(task.confirm)) == sorted(prompts(load_items(files[0])))
    # by hash: whatever order the file is in, and both in that order
    assert min(task.confirm.hashes) > max(task.search.hashes)
    for part in (task.search, task.confirm):
        lines = [item.line for item in part]
        assert lines == sorted(lines)
    (again,) = load_tasks({"other": TaskSpec(*files, confirm=share)})
    assert (again.search.digest, again.confirm.digest) == (task.search.digest, task.confirm.digest)


def test_a_larger_share_holds_back_what_a_smaller_one_did(write):
    files = write("validation", *range(50)), write("test", 100)
    shares = [0.1, 0.25, 0.5, 0.8]
    tasks = [load_tasks({"task": TaskSpec(*files, confirm=share)})[0] for share in shares]
    for fewer, more in itertools.pairwise(tasks):
        assert set(fewer.confirm.hashes) < set(more.confirm.hashes)


def test_the_files_order_does_not_matter(write):
    test = write("test", 100)
    ways = [range(30), range(29, -1, -1)]
    tasks = [
        load_tasks({"task": TaskSpec(write(f"v{place}", *way), test)})[0] for place, way in enumerate(ways)
    ]
    assert sorted(prompts(tasks[0].confirm)) == sorted(prompts(tasks[1].confirm))
    assert prompts(tasks[0].search) == prompts(tasks[1].search)[::-1]


def test_nothing_or_a_file_of_its_own_is_held_back(write):
    files = write("validation", *range(8)), write("test", 100)
    (none,) = load_tasks({"task": TaskSpec(*files, confirm=0.0)})
    assert (len(none.search), none.confirm) == (8, None)
    (own,) = load_tasks({"task": TaskSpec(*files, confirm=write("confirm", 200, 201))})
    assert (len(own.search), prompts(own.confirm)) == (8, ["item 200", "item 201"])


@pytest.mark.parametrize(("count", "share"), [(1, 0.25), (2, 0.2), (1, 0.6), (5, 0.99)])
def test_too_few_items_to_hold_some_back(write, count, share):
    files = write("validation", *range(count)), write("test", 100)
    with pytest.raises(DataError, match=rf"validation\.jsonl: {count} items are too few to hold back"):
        load_tasks({"task": TaskSpec(*files, confirm=share)})


def test_an_item_in_validation_and_test_is_refused_with_its_line(write):
    for wherever in range(20):
        files = write("validation", *range(20)), write("test", 100, wherever, 101)
        with pytest.raises(
            DataError, match=rf"1 of its 20 items .* first line {wherever + 1} \(there line 2\)"
        ):
            load_tasks({"task": TaskSpec(*files)})


def sets(write):
    """Two tasks of three files each."""
    names = itertools.product(("one", "two"), ("validation", "confirm", "test"))
    return {
        (task, kind): write(f"{task}-{kind}", *range(10 * place, 10 * place + 4))
        for place, (task, kind) in enumerate(names)
    }


def spec(files):
    return {
        task: TaskSpec(files[task, "validation"], files[task, "test"], confirm=files[task, "confirm"])
        for task in ("one", "two")
    }


def test_an_item_in_two_sets_of_any_tasks_is_refused(write):
    load_tasks(spec(sets(write)))
    names = list(sets(write))
    for first, second in itertools.combinations(names, 2):
        files = sets(write)
        # the same question, however it is spaced
        files[first].write_text(files[first].read_text() + '{"prompt": "the same", "answer": " x"}\n')
        files[second].write_text(files[second].read_text() + '{"prompt": " the  same", "answer": "x "}\n')
        if first[1] == second[1]:
            # two tasks may judge the same answer by two evaluators
            assert len(load_tasks(spec(files))) == 2
        else:
            with pytest.raises(DataError, match=r"1 of its 5 items are also in .*first line 5"):
                load_tasks(spec(files))


def test_two_tasks_may_share_a_file(write):
    validation, test = write("validation", *range(40)), write("test", *range(100, 110))
    one, two = load_tasks({"a": TaskSpec(validation, test), "b": TaskSpec(validation, test, "likelihood")})
    assert one.search.digest == two.search.digest
    assert one.confirm.digest == two.confirm.digest


def test_a_wrong_evaluator_is_named_by_its_task(write):
    files = write("validation", *range(8)), write("test", 100)
    with pytest.raises(DataError, match=r"^one\.evaluator: unknown .*'exactmatch'\nfix: did you mean exact"):
        load_tasks({"one": TaskSpec(*files, "exactmatch")})
    with pytest.raises(DataError, match=r"^tasks\.two\.evaluator: unknown"):
        load_tasks({"one": TaskSpec(*files), "two": TaskSpec(*files, "exactmatch")})


def test_exams_of_tasks(write):
    files = write("validation", *range(40)), write("test", *range(100, 120))
    specs = {"a": TaskSpec(*files, weight=2.0), "b": TaskSpec(*files, "likelihood")}
    search, confirm, test = exams(load_tasks(specs), racing=True, objectives=False)
    assert [len(asked) for asked in (search, confirm, test)] == [60, 20, 40]
    assert [asked.shares for asked in (search, confirm, test)] == [RUNGS, CONFIRM_RUNGS, (1.0,)]
    for asked in (search, confirm, test):
        assert [(part.name, part.evaluator.name, part.weight) for part in asked.sections] == [
            ("a", "exact_match", 2.0),
            ("b", "likelihood", 1.0),
        ]
    search, _, _ = exams(load_tasks(specs), racing=False, objectives=False)
    assert search.ends == (60,)
    nothing = {name: TaskSpec(*files, confirm=0.0) for name in "ab"}
    assert exams(load_tasks(nothing), racing=False, objectives=False)[1] is None


def test_all_tasks_hold_something_back_or_none(write):
    files = write("validation", *range(40)), write("test", *range(100, 120))
    specs = {"a": TaskSpec(*files), "b": TaskSpec(write("other", *range(200, 220)), files[1], confirm=0.0)}
    with pytest.raises(DataError, match=r"^tasks\.b\.confirm: nothing is held back here"):
        load_tasks(specs)
