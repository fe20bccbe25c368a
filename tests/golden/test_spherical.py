"""Great circles and means on the sphere, with whole vectors in float64, where methods use inner products."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mergery.errors import RecipeError

SHAPE = (12, 25)
LARGE = (900, 311)  # more than one chunk, whose ends fall inside rows


def random_models(count: int, shape=SHAPE, seed: int = 3, common: float = 1.0) -> np.ndarray:
    """Models with a part in common, as fine-tunes have."""
    generator = np.random.default_rng(seed)
    n = math.prod(shape)
    return (common * generator.normal(size=n) + generator.normal(size=(count, n))).astype(np.float32)


def agree(got: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(got, expected.reshape(-1), rtol=2e-6, atol=2e-6)


def arc(a: np.ndarray, b: np.ndarray, t: float) -> np.ndarray:
    """Shoemake's formula for two vectors, their own lengths kept."""
    angle = math.acos(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))
    return (math.sin((1 - t) * angle) * a + math.sin(t * angle) * b) / math.sin(angle)


@pytest.mark.parametrize("t", [0.0, 0.3, 1.0, 1.4, -0.5])
def test_slerp_follows_the_great_circle(merge, t):
    models = random_models(2)
    agree(merge("slerp", models, t=t), arc(*models.astype(np.float64), t))


def test_slerp_in_a_tensor_of_several_chunks(merge):
    models = random_models(2, LARGE)
    agree(merge("slerp", models, shape=LARGE, t=0.3), arc(*models.astype(np.float64), 0.3))


def test_slerp_follows_the_circle_at_small_angles_too(merge):
    a, b = random_models(2, common=0.0)
    models = np.stack([a, a + np.float32(0.3) * b])
    agree(merge("slerp", models, t=0.3), arc(*models.astype(np.float64), 0.3))


@pytest.mark.parametrize("factor", [1.5, -1.5])
def test_slerp_is_linear_between_nearly_parallel_models(merge, factor):
    a, b = random_models(2, common=0.0)
    models = np.stack([a, np.float32(factor) * a + np.float32(0.001) * b])
    agree(merge("slerp", models, t=0.25), 0.75 * models[0].astype(np.float64) + 0.25 * models[1])


def test_slerp_does_not_depend_on_the_scale(merge):
    models = random_models(2)
    small = merge("slerp", models * np.float32(2.0**-60), t=0.5)
    assert np.array_equal(small * np.float32(2.0**60), merge("slerp", models, t=0.5))


def test_slerp_from_a_zero_tensor_takes_a_right_angle(merge):
    models = random_models(2)
    models[0] = 0
    agree(merge("slerp", models, t=0.5), math.sin(math.pi / 4) * models[1].astype(np.float64))


def by_vector(models: np.ndarray, t: float, axis: int) -> np.ndarray:
    """The great circle for each vector along an axis of models ``(2, ...)``."""
    a, b = (np.moveaxis(model, axis, -1).astype(np.float64) for model in models)
    merged = np.empty_like(a)
    for index in np.ndindex(a.shape[:-1]):
        merged[index] = arc(a[index], b[index], t)
    return np.moveaxis(merged, -1, axis)


@pytest.mark.parametrize("based", [True, False])
@pytest.mark.parametrize("weight", [(1.0, 1.0), (0.2, 0.6), (-0.3, 1.3)])
def test_nuslerp_takes_the_whole_tensor(merge, weight, based):
    models = random_models(2)
    base = random_models(1, seed=9)[0] if based else None
    t = weight[1] / sum(weight)
    a, b = models.astype(np.float64) - (base.astype(np.float64) if based else 0.0)
    expected = arc(a, b, t) + (base if based else 0.0)
    agree(merge("nuslerp", models, base, weight=weight), expected)


@pytest.mark.parametrize("shape", [SHAPE, LARGE, (5, 4, 6), (400, 20, 30), (9,)])
@pytest.mark.parametrize("columns", [False, True])
def test_nuslerp_takes_rows_and_what_it_calls_rows(merge, shape, columns):
    models = random_models(2, shape)
    expected = by_vector(models.reshape(2, *shape), 0.75, 0 if columns else -1)
    got = merge(
        "nuslerp",
        models,
        shape=shape,
        weight=(1.0, 3.0),
        nuslerp_flatten=False,
        nuslerp_row_wise=columns,
    )
    agree(got, expected)


def test_nuslerp_of_weights_that_cancel_meets_in_the_middle(merge):
    models = random_models(2)
    agree(merge("nuslerp", models, weight=(1.0, -1.0)), arc(*models.astype(np.float64), 0.5))


@pytest.mark.parametrize("factor", [1.5, -1.5])
def test_nuslerp_is_linear_between_parallel_rows_only(merge, factor):
    models = random_models(2).reshape(2, *SHAPE)
    models[1, 3] = np.float32(factor) * models[0, 3]
    expected = models[0] * 0.5 + models[1] * 0.5
    for row in range(SHAPE[0]):
        if row != 3:
            expected[row] = arc(models[0, row].astype(np.float64), models[1, row].astype(np.float64), 0.5)
    agree(merge("nuslerp", models.reshape(2, -1), shape=SHAPE, nuslerp_flatten=False), expected)


def test_nuslerp_refuses_more_columns_than_it_can_hold(merge):
    shape = (1, (1 << 20) + 1)
    with pytest.raises(RecipeError, match="takes at most 1048576 columns, got 1048577"):
        merge("nuslerp", np.zeros((2, shape[1])), shape=shape, nuslerp_flatten=False, nuslerp_row_wise=True)


def barycentre(models: np.ndarray, weight: list[float]) -> np.ndarray:
    """Multi-SLERP step by step: mean direction, tangent space there, exponential map, mean length."""
    norms = [np.linalg.norm(model) for model in models]
    units = [model / norm for model, norm in zip(models, norms, strict=True)]
    mean = sum(w * unit for w, unit in zip(weight, units, strict=True))
    mean /= np.linalg.norm(mean)
    tangents = [unit - (unit @ mean) * mean for unit in units]
    step = sum(w * tangent for w, tangent in zip(weight, tangents, strict=True))
    length = np.linalg.norm(step) + 1e-8
    point = math.cos(length) * mean + math.sin(length) / length * step
    return point * sum(w * norm for w, norm in zip(weight, norms, strict=True))


@pytest.mark.parametrize("shape", [SHAPE, LARGE])
@pytest.mark.parametrize("based", [True, False])
@pytest.mark.parametrize("normalize", [True, False])
def test_multislerp_steps_on_the_sphere(merge, normalize, based, shape):
    models = random_models(3, shape) * np.array([[0.5], [1.0], [4.0]], np.float32)
    base = random_models(1, shape, seed=9)[0] if based else None
    weight = (0.5, 0.2, 1.1)
    shares = [w / sum(weight) for w in weight] if normalize else list(weight)
    origin = base.astype(np.float64) if based else 0.0
    expected = barycentre(models.astype(np.float64) - origin, shares) + origin
    got = merge("multislerp", models, base, shape=shape, weight=weight, normalize_weights=normalize)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


def test_multislerp_adds_opposite_models_linearly(merge):
    model = random_models(1)[0]
    models = np.stack([model, -3 * model])
    agree(merge("multislerp", models), -model.astype(np.float64))


def test_multislerp_refuses_to_normalise_weights_that_sum_to_zero(merge):
    with pytest.raises(RecipeError, match="sum to zero"):
        merge("multislerp", random_models(2), weight=(1.0, -1.0))


def karcher_mean(models: np.ndarray, max_iter: int, tol: float) -> np.ndarray:
    """The fixed point with whole vectors, from the definitions of log and exp on the sphere."""
    norms = [np.linalg.norm(model) for model in models]
    units = [model / norm for model, norm in zip(models, norms, strict=True) if norm > 0]
    point = sum(units) / len(units)
    point /= np.linalg.norm(point)
    for _ in range(max_iter):
        step = np.zeros_like(point)
        for unit in units:
            angle = math.acos(min(max(unit @ point, -1.0), 1.0))
            if angle >= tol:
                step += angle / math.sin(angle) * (unit - math.cos(angle) * point) / len(units)
        length = np.linalg.norm(step)
        if length < tol:
            break
        point = math.cos(length) * point + math.sin(length) * step / length
        point /= np.linalg.norm(point)
    return point * sum(norms) / len(norms)


@pytest.mark.parametrize("shape", [SHAPE, LARGE])
@pytest.mark.parametrize(("max_iter", "tol"), [(10, 1e-5), (0, 1e-5), (1, 1e-5), (50, 1e-5), (50, 0.01)])
def test_karcher_finds_the_mean_on_the_sphere(merge, max_iter, tol, shape):
    models = random_models(4, shape, common=0.4) * np.array([[0.5], [1.0], [4.0], [2.0]], np.float32)
    models[3] += models[2]
    expected = karcher_mean(models.astype(np.float64), max_iter, tol)
    agree(merge("karcher", models, shape=shape, max_iter=max_iter, tol=tol), expected)


def test_karcher_moves_away_from_the_normalised_mean(merge):
    models = random_models(4, common=0.4)
    models[3] = 5 * models[2] + 0.1 * models[3]
    assert not np.allclose(merge("karcher", models), merge("karcher", models, max_iter=0), rtol=1e-3)


def test_karcher_counts_zero_tensors_in_the_length_only(merge):
    models = random_models(3)
    models[1] = 0
    agree(merge("karcher", models), karcher_mean(models.astype(np.float64), 10, 1e-5))


def test_karcher_of_opposite_models_keeps_the_first_direction(merge):
    model = random_models(1)[0]
    agree(merge("karcher", np.stack([model, -3 * model])), 2 * model.astype(np.float64))
