from __future__ import annotations

import math

import pytest

from mergery.errors import RecipeError
from mergery.evolve.paths import Hop, Path


def test_scales_become_gains_of_the_hops():
    path = Path.from_scales([(0, 0), (1, 4), (0, 2)], [2.0, 0.5, 0.25])
    assert path.hops == (Hop(0, 0, 0.5), Hop(1, 4, 1.0), Hop(0, 2, 4.0))


def test_scales_of_one_change_nothing():
    assert Path.from_scales([(0, 0), (0, 1), (0, 2)], [1.0] * 3) == Path.plain(3)


@pytest.mark.parametrize(
    ("scales", "message"),
    [
        ([1.0], "1 scales for 2 hops"),
        ([1.0, 0.0], "scale 1 is 0"),
        ([-1.0, 1.0], "scale 0 is -1"),
        ([1.0, math.nan], "scale 1 is nan"),
        ([1e-200, 1e-200], "its gain is inf"),
    ],
)
def test_scales_that_mean_nothing_are_refused(scales, message):
    with pytest.raises(RecipeError, match=message):
        Path.from_scales([(0, 0), (0, 1)], scales)


@pytest.mark.parametrize("hop", [(-1, 0), (0, -1), (0, 0, math.inf), (0, 0, math.nan)])
def test_hops_to_nowhere_are_refused(hop):
    with pytest.raises(RecipeError, match="hop to layer"):
        Hop(*hop)


def test_a_path_has_layers():
    with pytest.raises(RecipeError, match="without layers"):
        Path(())
