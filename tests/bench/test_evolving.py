"""The bench of what a search costs, on the smallest models: real searches, real merges, a real dry run."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from bench.evolving import construction, forecasts, overhead, parse
from bench.evolving.costs import lines
from bench.evolving.family import Family, Shape, make_family, planted
from bench.measure import measure
from bench.records import Records

from bench import models
from mergery.evolve.fitness import Fitness
from mergery.evolve.trial import Trial

TINY = Shape(hidden=64, layers=2, words=50, prompts=(3, 6), answers=(1, 2))
SPLITS = {"search": 24, "confirm": 8, "test": 8}


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Family:
    folder = tmp_path_factory.mktemp("family")
    folder.rmdir()
    return make_family(folder, TINY, 2, splits=SPLITS)


def test_the_planted_merge_answers_all_and_the_base_does_not(family: Family) -> None:
    scored = Fitness.open(planted(family), family.file("search")).score(planted(family))
    assert scored.scores.value == 1.0
    assert len(scored.scores.outcomes) == SPLITS["search"]


def test_the_shape_has_thirty_million_parameters() -> None:
    shape = Shape()
    config = shape.config
    layer = 4 * shape.hidden**2 + 3 * shape.hidden * config.intermediate_size
    count = 2 * shape.words * shape.hidden + shape.layers * layer
    assert count == pytest.approx(31.5e6, rel=0.02)


def test_a_searchs_time_is_all_accounted_for(family: Family) -> None:
    spent = overhead.spend(overhead.spec_of(family, "default", budget=400))
    assert spent.asking + spent.merging + spent.rest == pytest.approx(spent.wall)
    assert min(spent.asking, spent.merging, spent.rest) > 0
    assert spent.gradients > 0
    assert 0 < spent.items <= 400
    assert spent.model > 100_000
    assert spent.largest > 0


def test_a_gradients_merging_counts_as_merging() -> None:
    whole = Trial(0, (), whole=True, cost=10, build_seconds=1.0, score_seconds=5.0)
    slope = Trial(1, (), cost=30, gradient=(0.5,), build_seconds=0.5, score_seconds=2.5)
    dropped = replace(whole, whole=False, cost=4, build_seconds=1.0, score_seconds=1.0)
    spent = overhead.account([whole, slope, dropped], 12.0, 100, 200, 300)
    assert (spent.asking, spent.merging, spent.rest) == (8.5, 2.5, 1.0)
    assert spent.overhead == pytest.approx(3.5 / 12)
    assert (spent.trials, spent.gradients, spent.given_up, spent.items) == (3, 1, 1, 44)


def test_a_candidate_is_built_both_ways(tmp_path: Path) -> None:
    made = models.make(tmp_path, "tiny", 2)
    rows = list(construction.compare(made, models.SIZES["tiny"].layers, tmp_path / "out", 2))
    assert len(rows) == 2
    assert all(set(row) == {"built", "merged", "loaded"} and min(row.values()) > 0 for row in rows)
    assert not (tmp_path / "out").exists()


def test_candidates_differ_in_every_layer(tmp_path: Path) -> None:
    made = models.make(tmp_path, "tiny", 2)
    one, other = construction.candidates(made, 2, 2)
    for source, twin in zip(one.slices[0].sources, other.slices[0].sources, strict=True):
        for name in ("weight", "density"):
            pairs = zip(source.parameters[name], twin.parameters[name], strict=True)
            assert all(mine != theirs for mine, theirs in pairs)


def test_a_forecast_is_printed(family: Family, tmp_path: Path) -> None:
    search = tmp_path / "search.yml"
    search.write_text(overhead.spec_of(family, "paper", budget=100).to_yaml())
    done = measure([sys.executable, "-c", forecasts.DRY_RUN, search, tmp_path / "out"])
    told = json.loads(done.output.splitlines()[-1])
    assert told["total_seconds"] > 0
    assert told["trials"] > 0
    assert not (tmp_path / "out").exists()


def test_other_work_on_the_machine_is_taken_out_of_a_forecasts_error() -> None:
    # the dry run got half a processor, the search a whole one
    pair = forecasts.Pair(60.0, 30.0, dry=10.0, real_cpu=30.0, dry_cpu=5.0, forecast_trials=9, trials=9)
    assert pair.ratio == 2.0
    assert pair.steady_ratio == 1.0


def test_the_page_has_what_is_on_record(tmp_path: Path) -> None:
    records = Records(tmp_path / "records.jsonl")
    assert "In memory" not in "\n".join(lines(records))
    for built in (1.0, 2.0, 4.0):
        records.note(part="construction", size="0.5b", built=built, merged=5 * built, loaded=7 * built)
    busy = {"whole": 0.91, "steady": 0.97, "generations": 0.5}
    records.note(part="workers", slots=4, algorithm="random", trials=240, **busy)
    text = "\n".join(lines(records))
    assert "| random | 4 | 240 | 91.0% | 97.0% | 50.0% | yes |" in text
    assert "| 2.00 (1.00–4.00, n 3) |" in text
    assert "| 12.0 (12.0–12.0, n 3) | yes |" in text


def test_there_is_a_place_for_every_part() -> None:
    assert parse(["--parts", "workers", "forecast"]).parts == ["workers", "forecast"]
