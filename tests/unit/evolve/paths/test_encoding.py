from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import yaml

from mergery.checkpoint import ModelRef
from mergery.errors import RecipeError
from mergery.evolve.paths import AlignedEncoding, Hop, PaperEncoding, Path, PathSpace

ENCODINGS = [
    PaperEncoding((4, 3)),
    PaperEncoding((5, 5, 2), repeats=1),
    AlignedEncoding((6, 6)),
    AlignedEncoding((5, 9, 2), gains=None),
    AlignedEncoding((32, 32)),
]


def decoded(encoding, point):
    return encoding.path(encoding.genome(tuple(point)))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_search_begins_at_the_donor_as_it_is(encoding):
    assert decoded(encoding, encoding.problem.start) == Path.plain(encoding.depths[0])


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_everything_has_one_entry_a_dimension(encoding):
    problem, count = encoding.problem, len(encoding.names)
    assert problem.dimensions == len(encoding.domains) == len(problem.depths) == count
    assert len(dict.fromkeys(encoding.names)) == count
    assert len(problem.choices) in (0, count)
    for level in problem.levels:
        assert len(level) == count
        assert list(dict.fromkeys(level)) == list(range(max(level) + 1))
    if problem.levels:
        assert problem.levels[-1] == tuple(range(count))
    assert all(0.0 <= share <= 1.0 for share in (*problem.start, *problem.depths))
    assert yaml.safe_load(yaml.safe_dump(encoding.identity)) == encoding.identity


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_corner_stays_inside_its_domain(encoding):
    generator = np.random.default_rng(1)
    for _ in range(20):
        point = generator.random(len(encoding.names)).round(int(generator.integers(0, 2)))
        genome = encoding.genome(tuple(point.tolist()))
        for value, domain in zip(genome, encoding.domains, strict=True):
            assert value in domain if isinstance(value, str) else domain[0] <= value <= domain[1]


def test_the_papers_path_is_that_of_its_authors_lines():
    """Issue 8 of the paper's repository: layers and scales as its authors make them of their parameters."""
    depth, repeats = 4, 3
    both = 2 * depth
    encoding = PaperEncoding((depth, depth), repeats)
    generator = np.random.default_rng(3)
    for _ in range(20):
        point = generator.random(both * repeats + both**2)
        indicators = 2 * point[: both * repeats] - 1
        offsets = (0.4 + 1.1 * point[both * repeats :] - 1).reshape(both, both)
        layers = [0, *(np.argwhere(indicators > 0).ravel() % both).tolist(), depth - 1]
        scales = [1.0] + [1 + offsets[before][after] for before, after in pairwise(layers)]
        path = decoded(encoding, point.tolist())
        assert [depth * hop.model + hop.layer for hop in path.hops] == layers
        gains = [1 / math.prod(scales[: hop + 1]) for hop in range(len(layers))]
        assert [hop.gain for hop in path.hops] == pytest.approx(gains, rel=1e-4)


def test_the_papers_space_has_its_size():
    encoding = PaperEncoding((32, 32))
    assert len(encoding.names) == 192 + 64**2
    assert encoding.names[0] == "path.run[0].model[0].layer[0]"
    assert encoding.names[64 + 33] == "path.run[1].model[1].layer[1]"
    assert encoding.names[192 + 64 * 3 + 40] == "path.scale[3][40]"


def test_a_slot_holds_a_layer_of_any_model_twice_or_not_at_all():
    encoding = AlignedEncoding((5, 5), longest=2.0)
    assert encoding.choices == ("skip", "model 0", "model 1", "model 0 twice", "model 1 twice")
    point = [(choice + 0.5) / 5 for choice in (3, 2, 0, 1, 4)] + [0.0, 0.5, 0.2, 1.0, 1.0]
    gain = math.sqrt(0.4 * 1.5)
    assert decoded(encoding, point).hops == (
        Hop(0, 0, 0.4),
        Hop(0, 0, 0.4),
        Hop(1, 1, round(gain, 6)),
        Hop(0, 3, 1.5),
        Hop(1, 4, 1.5),
        Hop(1, 4, 1.5),
    )


def test_models_of_other_depths_are_aligned_by_share():
    encoding = AlignedEncoding((5, 9, 2), gains=None)
    hops = decoded(encoding, [2.5 / 7] * 5).hops
    assert hops == tuple(Hop(1, layer) for layer in (0, 2, 4, 6, 8))
    assert [hop.layer for hop in decoded(encoding, [3.5 / 7] * 5).hops] == [0, 0, 0, 1, 1]


def test_second_runs_beyond_the_longest_path_are_left_out_from_the_ends():
    encoding = AlignedEncoding((6, 6), gains=None)
    twice = decoded(encoding, [0.99] * 6)
    assert [hop.layer for hop in twice.hops] == [0, 1, 1, 2, 2, 3, 3, 4, 5]
    mixed = decoded(encoding, [0.99, 0.99, 0.0, 0.0, 0.0, 0.99])
    assert [hop.layer for hop in mixed.hops] == [0, 0, 1, 1, 5, 5]


def test_other_models_layers_are_known_points():
    encoding = AlignedEncoding((4, 4, 4))
    known = {name: decoded(encoding, point) for name, point in encoding.problem.known}
    assert known == {f"layers of model {model}": Path.plain(4, model) for model in (1, 2)}


def test_levels_go_by_blocks_of_layers():
    encoding = AlignedEncoding((8, 8), gains=None)
    assert encoding.problem.levels == ((0, 0, 1, 1, 2, 2, 3, 3), tuple(range(8)))
    assert len(AlignedEncoding((32, 32)).problem.levels) == 4


def test_no_layer_at_all_is_no_path():
    with pytest.raises(RecipeError, match="without layers"):
        decoded(AlignedEncoding((4, 4)), [0.0] * 8)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PaperEncoding(()), "depths: none"),
        (lambda: PaperEncoding((1, 4)), "depths: 1, 4"),
        (lambda: PaperEncoding((4, 4), repeats=0), "repeats: 0"),
        (lambda: PaperEncoding((4, 4), scales=(0.0, 2.0)), "factors from 0 to 2"),
        (lambda: AlignedEncoding((4, 4), gains=(1.5, 2.0)), "factors from 1.5 to 2"),
        (lambda: AlignedEncoding((4, 4), longest=0.5), "longest: 0.5"),
    ],
)
def test_spaces_without_sense_are_refused(make, message):
    with pytest.raises(RecipeError, match=message):
        make()


def test_a_genome_is_a_recipe(make_kind):
    models = [ModelRef(str(make_kind(name, "qwen3", seed))) for seed, name in enumerate("ab")]
    space = PathSpace(AlignedEncoding((3, 3)), models)
    genome = space.decode((0.3, 0.5, 0.7, *space.problem.start[3:]))
    assert genome == ("model 0", "model 1", "model 0 twice", 1.0, 1.0, 1.0)
    candidate = space.candidate(genome)
    assert candidate.path == Path((Hop(0, 0), Hop(1, 1), Hop(0, 2), Hop(0, 2)))
    ranges = [part.sources[0].layer_range for part in candidate.recipe.slices]
    assert ranges == [(0, 1), (1, 2), (2, 3), (2, 3)]
    assert space.identity == [space.encoding.identity, [str(model) for model in models]]
