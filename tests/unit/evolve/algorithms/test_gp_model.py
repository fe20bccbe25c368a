"""The Gaussian process against dense formulas, closed forms and differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from mergery.evolve.algorithms.gaussian import Surrogate, Warp, spread
from mergery.evolve.algorithms.gaussian.features import Features
from mergery.evolve.algorithms.gaussian.kernel import Data, Parameters, negative_log_posterior

OFFSET = 1.0


def matern(one, other, scales, signal):
    """The kernel of two points, literally (Rasmussen and Williams, eq. 4.17)."""
    distance = math.sqrt(sum(((a - b) / scale) ** 2 for a, b, scale in zip(one, other, scales, strict=True)))
    root = math.sqrt(5) * distance
    return signal * (1 + root + root**2 / 3) * math.exp(-root)


def gram(rows, columns, kernel):
    return np.array(
        [[matern(row, column, kernel.scales, kernel.signal) for column in columns] for row in rows]
    )


def bumpy(points):
    return np.sin(5 * points[:, 0]) + (points[:, 1] - 0.3) ** 2


@pytest.fixture
def trials():
    generator = np.random.default_rng(3)
    points = generator.random((25, 3))
    return points, bumpy(points), generator.random(25) * 0.3


def test_posterior_is_that_of_the_dense_formulas(trials):
    points, losses, errors = trials
    surrogate = Surrogate((0, 0, 0))
    surrogate.fit(points, losses, errors)
    kernel = surrogate.parameters
    asked = np.random.default_rng(4).random((7, 3))
    targets, slopes = surrogate.warp(losses), surrogate.warp.slope(losses)
    noise = np.diag(kernel.noise + (errors * slopes) ** 2)
    inverse = np.linalg.inv(gram(points, points, kernel) + OFFSET + noise)
    cross = gram(asked, points, kernel) + OFFSET
    mean, deviation = surrogate.predict(asked)
    np.testing.assert_allclose(mean, cross @ inverse @ targets, rtol=1e-8, atol=1e-9)
    variance = kernel.signal + OFFSET - np.diag(cross @ inverse @ cross.T)
    np.testing.assert_allclose(deviation, np.sqrt(variance), rtol=1e-7)
    belief = surrogate.believe(asked)
    np.testing.assert_allclose(belief.mean, mean, rtol=1e-12)
    np.testing.assert_allclose(belief.deviation, deviation, rtol=1e-9)


@pytest.mark.parametrize("choices", [(0, 0, 0), (0, 3, 2)])
def test_slopes_are_those_of_differences(trials, choices):
    points, losses, errors = trials
    surrogate = Surrogate(choices)
    surrogate.fit(points, losses, errors)
    asked = surrogate.features.snap(np.random.default_rng(4).random((5, 3)))
    belief = surrogate.believe(asked)
    step = 1e-5
    for place in range(3):
        nudge = step * np.eye(3)[place]
        above, below = (np.stack(surrogate.predict(asked + sign * nudge)) for sign in (1, -1))
        expected = (above - below) / (2 * step)
        np.testing.assert_allclose(belief.mean_slope[:, place], expected[0], rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(belief.deviation_slope[:, place], expected[1], rtol=1e-4, atol=1e-6)


def posterior_data(trials, features):
    points, losses, errors = trials
    return Data(features.encode(points), features.groups, losses, errors**2, OFFSET)


def test_log_posterior_is_the_normal_density_and_the_priors(trials):
    points, losses, errors = trials
    features, surrogate = Features((0, 0, 0)), Surrogate((0, 0, 0))
    data, prior = posterior_data(trials, features), surrogate._prior

    def literal(theta):
        kernel = Parameters(np.exp(theta[:-2]), math.exp(theta[-2]), math.exp(theta[-1]))
        total = gram(points, points, kernel) + OFFSET + np.diag(kernel.noise + errors**2)
        density = stats.multivariate_normal(np.zeros(25), total).logpdf(losses)
        return -density - stats.norm(prior.mean, prior.deviation).logpdf(theta).sum()

    one, other = prior.mean, prior.mean + np.array([0.3, -0.5, 0.2, 0.4, -1.0])
    # up to a constant: differences are compared
    ours = negative_log_posterior(other, data, prior)[0] - negative_log_posterior(one, data, prior)[0]
    assert ours == pytest.approx(literal(other) - literal(one), rel=1e-9)


@pytest.mark.parametrize("choices", [(0, 0, 0), (4, 0, 2)])
def test_gradient_of_the_log_posterior_is_that_of_differences(trials, choices):
    surrogate = Surrogate(choices)
    data = posterior_data(trials, surrogate.features)
    theta = surrogate._prior.mean + np.linspace(-0.4, 0.5, len(surrogate._prior.mean))
    _, gradient = negative_log_posterior(theta, data, surrogate._prior)
    for place, unit in enumerate(1e-5 * np.eye(len(theta))):
        above, below = (
            negative_log_posterior(theta + sign * unit, data, surrogate._prior)[0] for sign in (1, -1)
        )
        assert gradient[place] == pytest.approx((above - below) / 2e-5, rel=1e-5, abs=1e-6)


def test_a_fit_is_better_than_its_prior_and_than_its_neighbours(trials):
    points, losses, _ = trials
    surrogate = Surrogate((0, 0, 0))
    surrogate.fit(points, losses)
    data = Data(points, surrogate.features.groups, surrogate.warp(losses), np.zeros(25), OFFSET)
    kernel = surrogate.parameters
    found = np.log([*kernel.scales, kernel.signal, kernel.noise])
    value = negative_log_posterior(found, data, surrogate._prior)[0]
    for place in range(len(found)):
        for step in (-0.3, 0.3):
            beside = found + step * np.eye(len(found))[place]
            assert value <= negative_log_posterior(beside, data, surrogate._prior)[0] + 1e-3
    # the third dimension does nothing
    assert kernel.scales[2] > 2 * kernel.scales[0]


def test_noise_is_learnt():
    generator = np.random.default_rng(0)
    points = generator.random((150, 2))
    for deviation in (0.0, 0.1):
        losses = np.sin(4 * points[:, 0]) + deviation * generator.standard_normal(150)
        surrogate = Surrogate((0, 0))
        surrogate.fit(points, losses, warp=Warp(2.0, 1.0, 1.0))
        learnt = math.sqrt(surrogate.parameters.noise)
        assert learnt < 0.01 if deviation == 0 else learnt == pytest.approx(deviation, rel=0.3)


def test_a_loss_with_a_large_error_pulls_less():
    points = np.array([[0.2], [0.5], [0.8], [0.5]])
    losses = np.array([1.0, 1.0, 1.0, 0.0])
    means = []
    for error in (0.0, 1.0):
        surrogate = Surrogate((0,))
        surrogate.fit(points, losses, np.array([0, 0, 0, error]), warp=Warp(2.0, 1.0, 1.0), tune=False)
        means.append(surrogate.warp.inverse(surrogate.predict(np.array([[0.5]]))[0])[0])
    # told 1 and 0 with equal right, it says the middle; told that the 0 is nothing but noise, it says 1
    assert means[0] == pytest.approx(0.5, abs=0.05)
    assert means[1] == pytest.approx(1.0, abs=0.05)


def test_imagined_trials_come_out_as_expected_and_leave_nothing_to_learn_there(trials):
    points, losses, _ = trials
    surrogate = Surrogate((0, 0, 0))
    surrogate.fit(points, losses)
    place = np.array([[0.9, 0.1, 0.95]])
    other = surrogate.imagine(place)
    asked = np.random.default_rng(1).random((9, 3))
    np.testing.assert_allclose(other.predict(asked)[0], surrogate.predict(asked)[0], atol=1e-6)
    assert other.predict(place)[1] < 0.5 * surrogate.predict(place)[1]
    assert len(surrogate.points) == 25
    assert len(other.points) == 26


def test_choices_have_an_order_and_none():
    features = Features((0, 4, 2))
    rows = features.encode(np.array([[0.3, 0.1, 0.9], [0.7, 0.6, 0.1], [0.7, 0.99, 1.0]]))
    assert features.groups.tolist() == [0, 1, 2, 3, 3, 3, 3]
    assert features.scales == 4
    np.testing.assert_allclose(rows[:, :3], [[0.3, 0, 1], [0.7, 2 / 3, 0], [0.7, 1, 1]])
    # the indicators of two different values are 1 apart, those of equal values 0
    differences = rows[:, None, 3:] - rows[None, :, 3:]
    np.testing.assert_allclose((differences**2).sum(2), 1 - np.eye(3), atol=1e-12)
    snapped = features.snap(np.array([[0.3, 0.1, 0.9], [0.7, 1.0, 0.0]]))
    np.testing.assert_allclose(snapped, [[0.3, 0.125, 0.75], [0.7, 0.875, 0.25]])


def test_an_unordered_choice_is_modelled():
    # values 0 and 2 are good, 1 and 3 are bad: no order says so
    generator = np.random.default_rng(5)
    points = generator.random((40, 2))
    losses = np.array([0.0, 1.0, 0.0, 1.0])[(4 * points[:, 0]).astype(int)] + 0.1 * points[:, 1]
    surrogate = Surrogate((4, 0))
    surrogate.fit(points, losses)
    mean, _ = surrogate.predict(np.array([[0.1, 0.5], [0.3, 0.5], [0.6, 0.5], [0.9, 0.5]]))
    np.testing.assert_allclose(surrogate.warp.inverse(mean), [0.05, 1.05, 0.05, 1.05], atol=0.1)


def test_warp_keeps_the_good_to_scale_and_the_order_of_all():
    points = np.linspace(0, 1, 9)[:, None]
    losses = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 50.0, 1e6, math.inf])
    warp = Warp.of(points, losses)
    warped = warp(losses)
    assert (np.diff(warped[:8]) > 0).all()
    assert warped[8] == warped[7]
    good = np.diff(warped[losses <= warp.knee])
    np.testing.assert_allclose(good, good[0])
    # a million times worse is some ten units worse
    assert 5 < warped[7] < 25
    np.testing.assert_allclose(warp.inverse(warped[:8]), losses[:8], rtol=1e-9)
    step = 1e-6
    slope = (warp(losses[:6] + step) - warp(losses[:6] - step)) / (2 * step)
    np.testing.assert_allclose(warp.slope(losses)[:6], slope, rtol=1e-4)


@pytest.mark.parametrize("losses", [[math.inf] * 4, [2.0] * 4, [1.0, math.inf, 1.0, 1.0], [3.0]])
def test_warp_of_failures_and_ties_is_finite(losses):
    points = np.linspace(0, 1, len(losses))[:, None]
    warped = Warp.of(points, np.array(losses))(np.array(losses))
    assert np.isfinite(warped).all()
    for one, other in zip(losses, warped, strict=True):
        assert other >= 1.0 if math.isinf(one) else other == 0.0


def test_warp_is_not_the_scale_of_the_place_where_the_search_gathers():
    generator = np.random.default_rng(7)
    wide = generator.random((24, 2))
    near = 0.5 + 1e-4 * generator.random((200, 2))
    points = np.concatenate([wide, near])
    losses = ((points - 0.5) ** 2).sum(1)
    alone, together = Warp.of(wide, losses[:24]), Warp.of(points, losses)
    assert together.unit > alone.unit / 4


def test_spread_points_are_each_the_farthest_from_those_before():
    points = np.random.default_rng(2).random((60, 2))
    chosen = spread(points, 12)
    assert chosen[0] == 0
    for count in range(1, 12):
        distance = [min(math.dist(point, points[other]) for other in chosen[:count]) for point in points]
        assert chosen[count] == int(np.argmax(distance))
    assert spread(points, 100).tolist() == list(range(60))
