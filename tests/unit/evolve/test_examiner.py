"""What candidates answer, what is kept of it, and what is never asked twice."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from mergery.errors import RecipeError
from mergery.evaluate import evaluate, get_evaluator, load_items
from mergery.evolve import SearchSpec
from mergery.evolve.builders import MergeBuilder, StoredBuilder
from mergery.evolve.candidate import Candidate
from mergery.evolve.exam import Exam, Section
from mergery.evolve.examiner import Examiner
from mergery.evolve.ledger import Ledger
from mergery.evolve.opening import Search
from mergery.evolve.slopes import Slopes
from mergery.recipe import Recipe
from unit.evolve.formulas import Formula, bowl, candidate, exam, examiner

ONE, OTHER = candidate(1.0, 0.5, 0.0), candidate(0.7, 0.7, 0.7)


def expected(asked, place=0):
    """Outcomes in the order of the hashes, straight from the formula."""
    return np.array(
        [bowl(ONE.recipe, item) for item in sorted(asked.sections[place].items, key=lambda i: i.hash)],
        np.float32,
    )


def test_outcomes_stand_in_the_exams_order():
    asked = exam(shares=(0.25, 0.5, 1.0))
    found = examiner(asked).examine(ONE)
    assert found.outcomes.dtype == np.float32
    np.testing.assert_array_equal(found.outcomes, expected(asked))
    assert np.isnan(found.smooth).all()
    assert found.build_seconds > 0
    assert found.score_seconds > 0


def test_several_tasks_lie_in_their_places():
    formulas = Formula(), Formula(lambda recipe, item: 5.0 + bowl(recipe, item), "other", smooth=True)
    asked = exam(*formulas, shares=(0.3, 1.0))
    found = examiner(asked).examine(ONE)
    for place, more in enumerate((0.0, 5.0)):
        mine = asked.section_of == place
        np.testing.assert_allclose(found.outcomes[mine], expected(asked, place) + more, rtol=1e-6)
    assert np.isnan(found.smooth).tolist() == (asked.section_of == 0).tolist()


def test_tasks_may_ask_the_same_items():
    formulas = Formula(), Formula(lambda recipe, item: 5.0 + bowl(recipe, item), "other")
    same = exam(formulas[0]).sections[0].items
    asked = Exam(tuple(Section(formula.name, formula, same) for formula in formulas))
    found = examiner(asked).examine(ONE)
    np.testing.assert_allclose(found.outcomes[asked.section_of == 0], expected(asked), rtol=1e-6)
    np.testing.assert_allclose(found.outcomes[asked.section_of == 1], expected(asked) + 5, rtol=1e-6)


def test_nothing_is_asked_twice(tmp_path):
    formula = Formula()
    asked = exam(formula, shares=(0.25, 1.0))
    with Ledger(tmp_path / "l.sqlite") as ledger:
        first = examiner(asked, ledger).examine(ONE)
    assert len(formula.asked) == 20
    with Ledger(tmp_path / "l.sqlite") as ledger:
        again = examiner(asked, ledger)
        second = again.examine(ONE)
        assert (len(formula.asked), again._builder.built) == (20, [])
        assert second.build_seconds == 0.0
        np.testing.assert_array_equal(first.outcomes, second.outcomes)
        # other rungs are other portions of the same items
        examiner(exam(formula, shares=(0.1, 0.6, 1.0)), ledger).examine(ONE)
        assert len(formula.asked) == 20
        # another candidate, and the same of other inputs, are other models
        again.examine(OTHER)
        assert len(formula.asked) == 40
        Examiner(again._builder, asked, ledger, "other inputs").examine(ONE)
        assert len(formula.asked) == 60


def test_it_ends_where_there_is_no_hope():
    formula = Formula()
    asked = exam(formula, count=40, shares=(0.1, 0.25, 0.5, 1.0))
    seen = []

    def hope(losses):
        seen.append(losses)
        return len(losses) < 10

    inquiry = examiner(asked)
    found = inquiry.examine(ONE, hope)
    assert [len(losses) for losses in seen] == [4, 10]
    np.testing.assert_array_equal(seen[-1], -expected(asked)[:10])
    np.testing.assert_array_equal(found.outcomes, expected(asked)[:10])
    assert len(found.smooth) == 10
    assert len(formula.asked) == 10
    # who is asked all is not asked for hope
    inquiry.examine(ONE, lambda losses: seen.append(len(losses)) or True)
    assert seen[2:] == [4, 10, 20]
    assert len(formula.asked) == 40


def test_a_part_that_is_known_in_part_is_asked_again_and_stays_the_same():
    formula = Formula()
    with Ledger() as ledger:
        examiner(exam(formula, shares=(0.25, 1.0)), ledger).examine(ONE, lambda losses: False)
        assert len(formula.asked) == 5
        found = examiner(exam(formula), ledger).examine(ONE)
    assert len(formula.asked) == 25
    np.testing.assert_array_equal(found.outcomes, expected(exam(formula)))


def test_a_record_is_recalled_from_the_ledger_or_else_asked_again():
    formula = Formula()
    asked = exam(formula, shares=(0.25, 0.5, 1.0))
    with Ledger() as ledger:
        kept = examiner(asked, ledger)
        kept.examine(ONE, lambda losses: False)
        assert len(kept.recall(ONE, 5).outcomes) == 5
        assert len(formula.asked) == 5
    for count in (5, 10, 20):
        np.testing.assert_array_equal(examiner(asked).recall(ONE, count).outcomes, expected(asked)[:count])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_answer_that_is_not_finite_is_the_candidates_fault(bad):
    def outcome(recipe, item):
        return bad if item.prompt == "t0 7" else bowl(recipe, item)

    formula = Formula(outcome)
    asked = exam(formula, shares=(0.25, 1.0))
    with Ledger() as ledger:
        for _ in range(2):
            with pytest.raises(RecipeError, match="the merged model's outputs are not finite"):
                examiner(asked, ledger).examine(ONE)
        # and that is known the second time
        assert len(formula.asked) == len(dict.fromkeys(formula.asked))


def test_linear_algebra_that_fails_is_the_candidates_fault():
    import torch

    class Failing:
        tokenizer = None

        def build(self, candidate):
            return torch.linalg.cholesky(torch.zeros(2, 2))

    with pytest.raises(ArithmeticError):
        Examiner(Failing(), exam(), Ledger(), "inputs").examine(ONE)


@pytest.fixture
def real(search):
    """A checked search of two tasks over the same real models."""
    search["search"]["racing"] = True
    task = search.pop("task")
    search["tasks"] = {"likely": task, "right": task | {"evaluator": "exact_match", "weight": 2.0}}
    return Search.open(SearchSpec.from_dict(search))


def as_it_is(model):
    data = {"merge_method": "passthrough", "models": [{"model": str(model)}]}
    return Candidate(Recipe.from_dict(data))


def test_real_models_answer_as_they_do_alone(real, search):
    with Ledger() as ledger:
        for name in ("one", "base"):
            model = next(ref for ref in real.start.models if Path(ref.path).name == name)
            inquiry = Examiner(StoredBuilder(model), real.exam, ledger, name)
            found = inquiry.examine(as_it_is(model))
            for place, section in enumerate(real.exam.sections):
                file = search["tasks"][section.name]["validation"]
                alone = evaluate(str(model.path), file, evaluator=section.evaluator.name)
                order = sorted(range(20), key=lambda at: alone.hashes[at])
                mine = real.exam.section_of == place
                # batches are others, and with them the last bits of sums
                np.testing.assert_allclose(found.outcomes[mine], alone.outcomes[order], rtol=1e-5)
                assert real.exam.means(found.outcomes)[place] == pytest.approx(alone.value, rel=1e-5)
            assert np.isfinite(found.smooth[real.exam.section_of == 1]).all()


def test_a_merge_in_memory_answers_as_its_written_model(real, tmp_path):
    from mergery.engine import merge

    genome = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    merged = real.space.candidate(genome)
    merge(merged.recipe, tmp_path / "written")
    file = real.exam.sections[0].items
    with Ledger() as ledger:
        found = Examiner(MergeBuilder(real.start), real.exam, ledger, "x").examine(merged)
    alone = evaluate(tmp_path / "written", file, evaluator="likelihood")
    assert real.exam.means(found.outcomes)[0] == pytest.approx(alone.value, rel=1e-5)


def test_an_item_that_cannot_be_asked_is_told(real, tmp_path):
    path = tmp_path / "long.jsonl"
    path.write_text('{"prompt": "' + "a " * 70 + '", "answer": " b"}\n')
    asked = Exam((Section("long", get_evaluator("likelihood"), load_items(path)),))
    from mergery.errors import DataError

    with Ledger() as ledger, pytest.raises(DataError, match="71 tokens, and the model takes 64"):
        Examiner(MergeBuilder(real.start), asked, ledger, "x").examine(real.space.candidate((0.0,) * 9))


class SlowSlopes(Slopes):
    """Merging for a gradient takes 0.3 s longer."""

    def at(self, genome, backward):
        time.sleep(0.3)
        return super().at(genome, backward)


def test_what_a_gradient_takes_besides_its_passes_counts_as_building(search):
    checked = Search.open(SearchSpec.from_dict(search))
    builder = MergeBuilder(checked.start)
    slopes = SlowSlopes(builder.live, checked.space)
    asker = Examiner(builder, checked.exam, Ledger(), "inputs", slopes)
    genome = checked.space.decode(checked.space.problem.start)
    asker.slope(genome, 0)  # the first one loads libraries
    begin = time.perf_counter()
    found = asker.slope(genome, 0)
    took = time.perf_counter() - begin
    assert found.build_seconds >= 0.3
    assert 0 < found.score_seconds < 0.3
    assert found.build_seconds + found.score_seconds == pytest.approx(took, abs=0.05)
