"""The exact posterior of blobs, against sums over its prior, quadrature, and what it promises."""

from dataclasses import replace

import numpy as np
import pytest
from routes import NUMPY
from scipy.special import hyp0f1, roots_gegenbauer, roots_hermitenorm

from mltk.data import Blobs
from mltk.data.families.blobs_posterior import log_mean_exponential
from mltk.errors import NotFiniteError, SettingError, ShapeError


@pytest.mark.parametrize("features", [1, 2, 5])
def test_one_column_is_a_bessel_function(features):
    scales = np.asarray([0.0, 0.5, 3.0, 60.0])
    found = log_mean_exponential(scales[:, None], features)
    np.testing.assert_allclose(found, np.log(hyp0f1(features / 2, scales**2 / 4)), rtol=1e-12, atol=1e-10)


def by_columns(scales, features, points):
    """The mean over the first column, a point of the sphere; the rest is a frame of the space across it."""
    grids, weights = [], []
    for dimensions in range(features, features - len(scales), -1):
        nodes, weight = roots_gegenbauer(points, dimensions / 2 - 1)
        grids.append(nodes)
        weights.append(weight / weight.sum())
    inner = np.stack(np.meshgrid(*grids, indexing="ij"), axis=-1).reshape(-1, len(scales))
    weight = np.prod(np.stack(np.meshgrid(*weights, indexing="ij"), axis=-1), axis=-1).ravel()
    outside = np.cumprod(np.sqrt(1 - inner**2), axis=1)
    column = inner * np.concatenate([np.ones((len(inner), 1)), outside[:, :-1]], axis=1)
    seen = np.diag(scales)[:, 1:] - column[:, :, None] * (column[:, 1:] * scales[1:])[:, None]
    outside_seen = outside[:, -1:, None] * (column[:, 1:] * scales[1:])[:, None]
    rest = np.linalg.svd(np.concatenate([seen, outside_seen], axis=1), compute_uv=False)
    return np.log(
        np.sum(weight * np.exp(column[:, 0] * scales[0] + log_mean_exponential(rest, features - 1)))
    )


@pytest.mark.parametrize(
    ("scales", "features", "points"),
    [((4.0, 1.5), 3, 40), ((9.0, 8.0), 6, 40), ((5.0, 3.0, 1.0), 4, 20), ((3.0, 2.0, 1.5, 1.0), 5, 10)],
)
def test_more_columns_are_integrals_over_the_first(scales, features, points):
    found = log_mean_exponential(np.asarray([scales]), features)[0]
    assert found == pytest.approx(by_columns(np.asarray(scales), features, points), abs=1e-7)


@pytest.mark.parametrize("spread", [0.0, 1e-6, 1e-4, 1e-3])
@pytest.mark.parametrize("size", [1.0, 30.0])
def test_equal_singular_values_are_no_singularity(spread, size):
    near, far = (
        log_mean_exponential(size * (1 + step * np.asarray([[1.5, 0.5, -0.5, -1.5]])), 5)[0]
        for step in (spread, 0.02)
    )
    further = log_mean_exponential(size * (1 + 0.04 * np.asarray([[1.5, 0.5, -0.5, -1.5]])), 5)[0]
    assert near == pytest.approx(far - (further - far) / 3, abs=1e-3)  # even in the spread


def by_sums(tasks, support_x, labels, query, *, turns=64, points=24):
    """Probabilities of the two classes in the plane, by sums over turn and centre."""
    nodes, weights = roots_hermitenorm(points)
    centre = tasks.centre * np.stack(np.meshgrid(nodes, nodes), axis=-1).reshape(-1, 2)
    angle = 2 * np.pi * np.arange(turns)[:, None] / turns
    away = tasks.separation / 2 * np.concatenate([np.cos(angle), np.sin(angle)], axis=1)
    means = centre[:, None, None] + np.stack([away, -away], axis=1)
    log_density = -sum(
        np.sum((x - means[..., y, :]) ** 2, axis=-1) for x, y in zip(support_x, labels, strict=True)
    )
    of_query = np.stack([np.sum((query - means[..., y, :]) ** 2, axis=-1) for y in range(2)])
    chances = np.sum(
        np.outer(weights, weights).reshape(-1, 1) * np.exp((log_density - of_query) / 2), axis=(1, 2)
    )
    return chances / chances.sum()


@pytest.mark.parametrize("labels", [[0, 1], [1], [0, 0, 1]])
@pytest.mark.parametrize("centre", [0.0, 0.7])
def test_probabilities_are_sums_over_the_prior(labels, centre):
    tasks = Blobs(2, 1, 1, separation=2.0, centre=centre)
    rng = np.random.default_rng(0)
    x, query = rng.normal(size=(1, len(labels), 2)), rng.normal(size=(1, 3, 2))
    found = np.exp(tasks.bayes_predict(x, np.asarray([labels]), query))[0]
    for row, each in zip(found, query[0], strict=True):
        np.testing.assert_allclose(row, by_sums(tasks, x[0], labels, each), atol=1e-8)


@pytest.mark.parametrize("ways", [3, 4])
def test_probabilities_are_means_over_drawn_means(ways):
    """Of 200,000 drawn sets of class means, weighted by how likely they make what was seen."""
    tasks = Blobs(ways, 1, 1, separation=1.5, features=ways + 1, centre=0.5)
    episode = tasks.sample(1, 3, NUMPY)
    means = tasks.means(200_000, 0)
    weight = np.exp(-np.sum((episode.support_x[0] - means) ** 2, axis=(1, 2)) / 2)
    seen = np.exp(-np.sum((episode.query_x[0][:, None, None] - means) ** 2, axis=-1) / 2)
    terms = weight[:, None] * seen  # a query, a draw, a class
    chances = terms.mean(axis=1) / terms.mean(axis=1).sum(axis=-1, keepdims=True)
    found = np.exp(tasks.bayes_predict(episode.support_x, episode.support_y, episode.query_x))[0]
    shifted = terms - found[:, None] * terms.sum(axis=-1, keepdims=True)
    error = shifted.std(axis=1) / np.sqrt(200_000) / terms.sum(axis=-1).mean(axis=1)[:, None]
    assert (error < 0.02).all()
    assert (np.abs(chances - found) < 5 * error).all()


@pytest.mark.parametrize(("ways", "shots"), [(2, 1), (3, 2), (5, 1)])
def test_the_errors_that_are_expected_are_met(ways, shots):
    tasks = Blobs(ways, shots, 3)
    episode = tasks.sample(40 if ways == 5 else 400, 1, NUMPY)
    parts = episode.support_x, episode.support_y, episode.query_x
    chances = np.exp(tasks.bayes_predict(*parts))
    missed = np.mean(chances.argmax(axis=-1) != episode.query_y, axis=1)
    difference = missed - tasks.bayes_error(*parts)
    assert abs(difference.mean()) < 4 * difference.std() / np.sqrt(len(missed))
    truth = np.eye(ways)[episode.query_y]
    calibration = np.mean((truth - chances) * chances, axis=(1, 2))  # a scoring rule: zero if calibrated
    assert abs(calibration.mean()) < 4 * calibration.std() / np.sqrt(len(missed))


def test_many_shots_are_as_good_as_knowing_the_means():
    tasks = Blobs(3, 60, 5, separation=2.0)
    episode = tasks.sample(20, 0, NUMPY)
    means = tasks.means(20, 0)
    known = -np.sum((episode.query_x[:, :, None] - means[:, None]) ** 2, axis=-1) / 2
    known -= np.logaddexp.reduce(known, axis=-1, keepdims=True)
    found = tasks.bayes_predict(episode.support_x, episode.support_y, episode.query_x)
    assert np.abs(np.exp(found) - np.exp(known)).mean() < 0.03


def test_names_of_classes_turns_and_no_separation_make_no_difference():
    tasks = Blobs(4, 2, 1)
    episode = tasks.sample(2, 0, NUMPY)
    x, y, query = episode.support_x, episode.support_y, episode.query_x
    found = tasks.bayes_predict(x, y, query)
    order = np.asarray([2, 0, 3, 1])
    np.testing.assert_allclose(tasks.bayes_predict(x, order[y], query)[..., order], found, atol=1e-9)
    turn, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))
    np.testing.assert_allclose(tasks.bayes_predict(x @ turn, y, query @ turn), found, atol=1e-9)
    alike = replace(tasks, separation=0.0).bayes_predict(x, y, query)
    np.testing.assert_allclose(alike, -np.log(4), atol=1e-9)


def test_what_has_no_posterior_is_refused():
    x, y = np.zeros((1, 3, 3)), np.asarray([[0, 1, 2]])
    for tasks in (Blobs(6, 1, 1), Blobs(3, 1, 1, features=2)):
        with pytest.raises(SettingError, match="at most 5 ways, and at least as many features"):
            tasks.bayes_predict(x, y, x)
    for parts in ((x[..., :2], y, x), (x, y[:, :2], x), (x, y + 1, x), (x, y, x[0])):
        with pytest.raises(ShapeError):
            Blobs(3, 1, 1).bayes_predict(*parts)
    with pytest.raises(NotFiniteError, match="query_x holds NaN"):
        Blobs(3, 1, 1).bayes_predict(x, y, x * np.nan)


def test_every_backend_has_the_same(backend64):
    tasks = Blobs(3, 2, 2)
    found, expected = (tasks.sample(3, 0, backend) for backend in (backend64, NUMPY))
    for function in (tasks.bayes_predict, tasks.bayes_error):
        value = function(found.support_x, found.support_y, found.query_x)
        assert backend64.owns(value)
        same = function(expected.support_x, expected.support_y, expected.query_x)
        np.testing.assert_array_equal(backend64.to_numpy(value), same)
