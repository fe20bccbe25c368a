"""Expected improvements against integrals of many digits, simulation and differences."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from scipy.special import ndtr, ndtri
from scipy.stats import qmc

from mergery.evolve.algorithms.gaussian import (
    ExpectedHypervolume,
    ExpectedImprovement,
    Surrogate,
    maximise,
    propose,
)
from mergery.evolve.algorithms.gaussian.acquisition import log_improvement
from mergery.evolve.algorithms.pareto import front_indices


def integral(best, mean, deviation):
    """log E(best - Y)⁺ by quadrature with forty digits."""
    with mpmath.workdps(40):
        z = (mpmath.mpf(best) - mean) / deviation
        # substituted so that the integrand begins at 1: φ(z - t) = φ(z) exp(zt - t²/2)
        scale = max(1, abs(z))
        tail = mpmath.quad(
            lambda t: t * mpmath.exp(z * t - t * t / 2), [0, 1 / scale, 10 / scale, 60 + 2 * scale]
        )
        return float(mpmath.log(deviation) - z * z / 2 - mpmath.log(2 * mpmath.pi) / 2 + mpmath.log(tail))


@pytest.mark.parametrize("z", [8.0, 1.5, 0.0, -0.999, -1.001, -5.0, -37.0, -400.0, -999.0, -1001.0, -5000.0])
def test_log_improvement_is_the_integrals_logarithm(z):
    best, deviation = 0.3, 0.7
    mean = best - z * deviation
    found = log_improvement(best, np.array([mean]), np.array([deviation]))
    assert found[0] == pytest.approx(integral(best, mean, deviation), rel=1e-9, abs=1e-9)


def test_log_improvement_grows_across_its_branches():
    z = np.concatenate([np.linspace(-1002, -998, 401), np.linspace(-1.01, -0.99, 401)])
    assert (np.diff(log_improvement(0.0, -z, np.ones_like(z))) > 0).all()


def fitted(seed=0, choices=(0, 0), noise=0.05, objectives=1):
    generator = np.random.default_rng(seed)
    points = generator.random((20, len(choices)))
    models = []
    for place in range(objectives):
        losses = ((points - 0.25 - 0.5 * place) ** 2).sum(1) + noise * generator.standard_normal(20)
        surrogate = Surrogate(choices)
        surrogate.fit(points, losses)
        models.append(surrogate)
    return models


def with_noise(surrogate, noise):
    """The same model, believing in another noise."""
    surrogate._theta = np.concatenate([surrogate._theta[:-1], [np.log(noise)]])
    surrogate._condition()
    return surrogate


def after_a_trial(surrogate, place, outcomes):
    """Posterior mean at a place after a noisy trial there, for each outcome, by conditioning anew."""
    return [
        np.linalg.solve(covariance, np.append(surrogate.targets, outcome)) @ covariance_row
        for covariance, covariance_row in [joint(surrogate, place)]
        for outcome in outcomes
    ]


def joint(surrogate, place):
    points = np.concatenate([surrogate.points, place]) / surrogate.parameters.scales
    root = np.sqrt(5) * np.linalg.norm(points[:, None] - points[None], axis=2)
    function = 1.0 + surrogate.parameters.signal * (1 + root + root**2 / 3) * np.exp(-root)
    return function + surrogate.parameters.noise * np.eye(len(points)), function[-1]


def test_expected_improvement_is_of_the_mean_after_a_noisy_trial():
    (surrogate,) = fitted()
    with_noise(surrogate, 0.3)
    place = np.array([[0.15, 0.4]])
    (mean,), (deviation,) = surrogate.predict(place)
    spread = np.sqrt(deviation**2 + surrogate.parameters.noise)
    # midpoints of 4001 slices of equal probability of what the trial may say
    shares = (np.arange(4001) + 0.5) / 4001
    means = np.array(after_a_trial(surrogate, place, mean + spread * ndtri(shares)))
    best = surrogate.predict(surrogate.points)[0].min()
    expected = np.log(np.maximum(best - means, 0).mean())
    assert ExpectedImprovement(surrogate).value(place)[0] == pytest.approx(expected, abs=2e-3)


def test_a_point_that_is_known_well_promises_less_than_without_noise():
    (surrogate,) = fitted()
    best = surrogate.points[[np.argmin(surrogate.predict(surrogate.points)[0])]]
    values = [ExpectedImprovement(with_noise(surrogate, noise)).value(best)[0] for noise in (1e-4, 1.0)]
    assert np.isfinite(values).all()
    assert values[1] < np.log(surrogate.predict(best)[1][0])


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_gradients_are_those_of_differences(objectives):
    models = fitted(choices=(0, 3, 0), objectives=objectives)
    acquisition = ExpectedImprovement(models[0]) if objectives == 1 else ExpectedHypervolume(models)
    points = models[0].features.snap(np.random.default_rng(9).random((6, 3)))
    value, gradient = acquisition.gradient(points)
    np.testing.assert_allclose(value, acquisition.value(points), rtol=1e-7, atol=1e-9)
    for place in (0, 2):
        nudge = 1e-5 * np.eye(3)[place]
        expected = (acquisition.value(points + nudge) - acquisition.value(points - nudge)) / 2e-5
        np.testing.assert_allclose(gradient[:, place], expected, rtol=2e-4, atol=1e-5)
    assert (gradient[:, 1] == 0).all()


@pytest.mark.parametrize("objectives", [2, 3])
@pytest.mark.parametrize("point", [(0.3, 0.3), (0.5, 0.6), (0.05, 0.95)])
def test_expected_hypervolume_is_the_integral_of_the_chance_to_dominate(objectives, point):
    models = [with_noise(model, 1e-6) for model in fitted(seed=1, objectives=objectives)]
    acquisition = ExpectedHypervolume(models)
    means = np.stack([model.predict(model.points)[0] for model in models], axis=1)
    front = means[front_indices(means)]
    worst = np.stack([model.targets for model in models], axis=1).max(0)
    reference = worst + 0.1 * (worst - front.min(0))
    place = np.array([point])
    mean, deviation = np.array([np.concatenate(model.predict(place)) for model in models]).T
    # a place u of the objectives is gained if it is free and Y lies below it: Π Φ((u - mean) / deviation)
    lowest = np.minimum(mean - 6 * deviation, reference - 1)
    places = lowest + (reference - lowest) * qmc.Sobol(objectives, rng=1).random(2**16)
    free = ~(front[:, None] <= places[None]).all(2).any(0)
    expected = (free * ndtr((places - mean) / deviation).prod(1)).mean() * (reference - lowest).prod()
    assert np.exp(acquisition.value(place)[0]) == pytest.approx(expected, rel=0.02, abs=1e-7)


def test_hopeless_points_still_have_a_finite_gradient():
    models = fitted(objectives=2)
    for model in models:
        # a signal so small that everything is certain
        model._theta = np.concatenate([model._theta[:-2], [np.log(0.02), np.log(1e-6)]])
        model._condition()
    points = np.concatenate([np.random.default_rng(0).random((50, 2)), models[0].points])
    value, gradient = ExpectedHypervolume(models).gradient(points)
    assert not np.isnan(value).any()
    assert np.isfinite(gradient[np.isfinite(value)]).all()


def test_proposals_beat_a_fine_grid():
    (surrogate,) = fitted(seed=4)
    acquisition = ExpectedImprovement(surrogate)
    grid = np.stack(np.meshgrid(*[np.linspace(0, 1, 101)] * 2), axis=-1).reshape(-1, 2)
    point = propose([surrogate], np.random.default_rng(0))
    assert acquisition.value(point[None])[0] >= acquisition.value(grid).max() - 1e-3


def test_proposals_stay_in_their_box():
    (surrogate,) = fitted(seed=4)
    low, high = np.array([0.6, 0.5]), np.array([0.8, 1.0])
    for seed in range(5):
        point = propose([surrogate], np.random.default_rng(seed), box=(low, high))
        assert (low <= point).all()
        assert (point <= high).all()


def test_pending_points_are_not_proposed_again():
    (surrogate,) = fitted(seed=4)
    first = propose([surrogate], np.random.default_rng(0))
    second = propose([surrogate], np.random.default_rng(0), pending=first[None])
    assert np.abs(first - second).max() > 0.02


class Staircase:
    """Largest at the last values of two choices, and nothing to climb between."""

    def value(self, points):
        return np.floor(5 * points[:, 0]) + np.floor(7 * points[:, 1]) - (points[:, 2] - 0.3) ** 2

    def gradient(self, points):
        return self.value(points), np.stack(
            [0 * points[:, 0], 0 * points[:, 1], 0.6 - 2 * points[:, 2]], axis=1
        )


def test_choices_are_climbed_one_by_one():
    (surrogate,) = fitted(choices=(5, 7, 0))
    anchors = np.array([[0.1, 0.07, 0.5]])
    point = maximise(
        Staircase(), surrogate.features, anchors, np.random.default_rng(0), known=np.empty((0, 3))
    )
    np.testing.assert_allclose(point, [0.9, 6.5 / 7, 0.3], atol=1e-4)


def test_a_space_of_choices_is_tried_to_its_end():
    surrogate = Surrogate((2, 3))
    points = np.array([[0.25, 1 / 6], [0.75, 1 / 6], [0.25, 0.5]])
    losses = [0.0, 1.0, 1.0]
    while len(points) < 6:
        surrogate.fit(points, np.array(losses))
        points = np.vstack([points, propose([surrogate], np.random.default_rng(0))])
        losses.append(1.0)
    assert len(np.unique(points.round(3), axis=0)) == 6
    surrogate.fit(points, np.array(losses))
    assert propose([surrogate], np.random.default_rng(0)).shape == (2,)
