"""Task families: their distributions, their reproducibility, and the optima that they know."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

import mltk
from mltk.data import Bandits, Blobs, Harmonic, LinearRegression, Navigation, Sinusoid
from mltk.errors import SettingError

FAMILIES = [
    Sinusoid(3, 4, noise=0.1),
    Harmonic(3, 4, noise=0.1),
    LinearRegression(3, 4, features=2, prior_mean=(1.0, -1.0)),
    Blobs(3, 2, 4, features=5),
]
ARRAYS = ("support_x", "support_y", "query_x", "query_y")
REFERENCE = mltk.backend("numpy", dtype="float64")

LEVEL = 1e-6
"""How often a test of a statistic would fail by chance, were its seed not fixed."""


def name(family):
    return type(family).__name__


def assert_mean(samples, expected):
    """The mean of independent samples is what is expected, up to chance of `LEVEL`."""
    error = stats.norm.isf(LEVEL / 2) * samples.std() / math.sqrt(len(samples))
    assert abs(samples.mean() - expected) < error


@pytest.mark.parametrize("family", FAMILIES, ids=name)
def test_the_same_seed_gives_the_same_tasks_on_every_backend(family, backend64, backend32):
    reference = family.sample(5, 7, REFERENCE)
    for backend in (backend64, backend32):
        episode = family.sample(5, np.random.default_rng(7), backend).validate()
        assert episode.ways == reference.ways
        for array in ARRAYS:
            found, expected = backend.to_numpy(getattr(episode, array)), getattr(reference, array)
            assert found.dtype == (backend.dtype if expected.dtype.kind == "f" else np.int64)
            np.testing.assert_array_equal(found, expected.astype(found.dtype))


@pytest.mark.parametrize("family", FAMILIES, ids=name)
def test_a_generator_moves_on_and_a_seed_does_not(family):
    rng = np.random.default_rng(0)
    first, second, again = (family.sample(2, r, REFERENCE).support_x for r in (rng, rng, 0))
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize("family", FAMILIES, ids=name)
def test_shapes(family):
    episode = family.sample(6, 0, REFERENCE)
    per_class = family.ways if isinstance(family, Blobs) else 1
    features = getattr(family, "features", 1)
    assert episode.support_x.shape == (6, family.shots * per_class, features)
    assert episode.query_x.shape == (6, family.queries * per_class, features)


def test_sinusoid_draws_each_setting_from_its_range():
    bounds = {"amplitude": (0.1, 5.0), "frequency": (0.8, 1.2), "phase": (0.0, math.pi), "x": (-5.0, 5.0)}
    tasks = Sinusoid(2000, 1, **bounds)
    episode = tasks.sample(300, 1, REFERENCE)
    x, y = episode.support_x[..., 0], episode.support_y[..., 0]
    assert stats.kstest(x.ravel(), stats.uniform(-5, 10).cdf).pvalue > LEVEL
    assert np.abs(y).max() <= 5
    amplitude = np.abs(y).max(axis=1)  # reached to 1e-4 on 2000 inputs over more than a period
    assert stats.kstest(amplitude, stats.uniform(0.1, 4.9).cdf).pvalue > LEVEL
    # With the frequency fixed, two linear coefficients give the phase back exactly.
    episode = Sinusoid(20, 1, frequency=(1.5, 1.5)).sample(300, 2, REFERENCE)
    waves = np.concatenate([np.sin(1.5 * episode.support_x), np.cos(1.5 * episode.support_x)], axis=-1)
    coefficients = np.linalg.pinv(waves) @ episode.support_y
    np.testing.assert_allclose(waves @ coefficients, episode.support_y, atol=1e-10)
    phase = np.arctan2(coefficients[:, 1, 0], coefficients[:, 0, 0])
    assert stats.kstest(phase, stats.uniform(0, math.pi).cdf).pvalue > LEVEL


def test_harmonic_is_the_sum_of_a_wave_and_its_overtone():
    tasks = Harmonic(40, 1, frequency=(6.0, 6.0), amplitude=2.0, centre=(-4.0, 4.0), spread=0.5)
    episode = tasks.sample(400, 3, REFERENCE)
    x = episode.support_x
    waves = np.concatenate([f(n * 6 * x) for n in (1, 2) for f in (np.sin, np.cos)], axis=-1)
    coefficients = (np.linalg.pinv(waves) @ episode.support_y)[..., 0]
    np.testing.assert_allclose(waves @ coefficients[..., None], episode.support_y, atol=1e-8)
    # A Gaussian amplitude at a uniform phase: the squared modulus has the mean 2².
    for first in (0, 2):
        assert_mean((coefficients[:, first : first + 2] ** 2).sum(axis=1), 4.0)
    deviations = x[..., 0] - x[..., 0].mean(axis=1, keepdims=True)
    assert_mean((deviations**2).sum(axis=1) / 39, 0.25)
    assert_mean(x[..., 0].mean(axis=1) ** 2, 8**2 / 12 + 0.25 / 40)


@pytest.mark.parametrize("family", [Sinusoid, Harmonic], ids=lambda family: family.__name__)
def test_noise_is_added_to_support_and_query_targets_alone(family):
    clean = family(5, 5).sample(400, 4, REFERENCE)
    noisy = family(5, 5, noise=0.3).sample(400, 4, REFERENCE)
    for part in ("support", "query"):
        np.testing.assert_array_equal(getattr(noisy, f"{part}_x"), getattr(clean, f"{part}_x"))
        noise = (getattr(noisy, f"{part}_y") - getattr(clean, f"{part}_y")).ravel()
        assert stats.kstest(noise, stats.norm(0, 0.3).cdf).pvalue > LEVEL


LINEAR = LinearRegression(6, 5, features=3, prior_mean=(1.0, 0.0, -2.0), prior_scale=1.5, noise=0.7)


def conditioned(tasks, support_x, support_y, query_x):
    """Mean and variance of one task's query targets, by conditioning the joint Gaussian of all targets."""
    x = np.concatenate([support_x, query_x])
    mean = x @ np.broadcast_to(tasks.prior_mean, tasks.features)
    covariance = tasks.prior_scale**2 * x @ x.T + tasks.noise**2 * np.eye(len(x))
    known, asked = slice(None, len(support_x)), slice(len(support_x), None)
    gain = np.linalg.solve(covariance[known, known], covariance[known, asked]).T
    predicted = mean[asked] + gain @ (support_y[:, 0] - mean[known])
    return predicted, np.diag(covariance[asked, asked] - gain @ covariance[known, asked])


@pytest.mark.parametrize("shots", [1, 2, 3, 9])
@pytest.mark.parametrize("prior_mean", [(1.0, 0.0, -2.0), 0.5])
def test_bayes_prediction_and_error_are_those_of_the_joint_gaussian(backend64, shots, prior_mean):
    tasks = LinearRegression(shots, 5, features=3, prior_mean=prior_mean, prior_scale=1.5, noise=0.7)
    episode = tasks.sample(4, 0, backend64)
    predicted = tasks.bayes_predict(episode.support_x, episode.support_y, episode.query_x)
    error = tasks.bayes_error(episode.support_x, episode.query_x)
    assert backend64.owns(predicted)
    assert backend64.owns(error)
    arrays = [backend64.to_numpy(getattr(episode, array)) for array in ARRAYS[:3]]
    for task in range(4):
        mean, variance = conditioned(tasks, *(array[task] for array in arrays))
        np.testing.assert_allclose(backend64.to_numpy(predicted)[task, :, 0], mean, rtol=1e-10)
        np.testing.assert_allclose(backend64.to_numpy(error)[task], variance.mean(), rtol=1e-10)


def test_linear_regression_draws_weights_inputs_and_noise_from_their_gaussians():
    settings = {"features": 2, "prior_mean": (1.0, -2.0), "prior_scale": 1.5, "x_scale": 0.5}
    clean = LinearRegression(3, 2, **settings, noise=0.0).sample(2000, 6, REFERENCE)
    noisy = LinearRegression(3, 2, **settings, noise=0.7).sample(2000, 6, REFERENCE)
    weights = (np.linalg.pinv(clean.support_x) @ clean.support_y)[..., 0]
    for samples, mean, scale in [
        (weights[:, 0], 1.0, 1.5),
        (weights[:, 1], -2.0, 1.5),
        (clean.query_x.ravel(), 0.0, 0.5),
        ((noisy.support_y - clean.support_y).ravel(), 0.0, 0.7),
        ((noisy.query_y - clean.query_y).ravel(), 0.0, 0.7),
    ]:
        assert stats.kstest(samples, stats.norm(mean, scale).cdf).pvalue > LEVEL
        assert_mean((samples - mean) ** 2, scale**2)


def test_without_noise_enough_shots_find_the_weights_exactly():
    tasks = LinearRegression(4, 6, features=4, noise=0.0)
    episode = tasks.sample(20, 0, REFERENCE)
    predicted = tasks.bayes_predict(episode.support_x, episode.support_y, episode.query_x)
    np.testing.assert_allclose(predicted, episode.query_y, atol=1e-8)
    np.testing.assert_allclose(tasks.bayes_error(episode.support_x, episode.query_x), 0, atol=1e-8)


def test_bayes_error_is_reached_by_bayes_and_by_no_other_ridge():
    episode = LINEAR.sample(40_000, 5, REFERENCE)
    sets = [getattr(episode, array) for array in ARRAYS[:3]]

    def error(tasks):
        return ((tasks.bayes_predict(*sets) - episode.query_y) ** 2).mean(axis=(1, 2))

    best = error(LINEAR)
    assert_mean(best - LINEAR.bayes_error(episode.support_x, episode.query_x), 0.0)
    wrong = [
        LinearRegression(6, 5, features=3, **{"prior_mean": LINEAR.prior_mean, "noise": 0.7 * factor, **kw})
        for factor, kw in [
            (0.25, {"prior_scale": 1.5}),
            (0.7, {"prior_scale": 1.5}),
            (1.5, {"prior_scale": 1.5}),
            (4.0, {"prior_scale": 1.5}),
            (1.0, {"prior_scale": 1.5, "prior_mean": 0.0}),
        ]
    ]
    for other in wrong:
        worse = error(other) - best
        assert worse.mean() > stats.norm.isf(LEVEL) * worse.std() / math.sqrt(len(worse))


def test_blobs_have_the_labels_that_were_asked_for():
    episode = Blobs(4, 3, 5).sample(6, 0, REFERENCE)
    for labels, examples in ((episode.support_y, 3), (episode.query_y, 5)):
        counts = (labels[..., None] == np.arange(4)).sum(axis=1)
        np.testing.assert_array_equal(counts, np.full((6, 4), examples))


@pytest.mark.parametrize(("ways", "features"), [(2, 1), (2, 3), (4, 3), (5, None), (5, 12)])
def test_class_means_are_equally_far_and_turned_at_random(ways, features):
    tasks = Blobs(ways, 1, 1, features=features, separation=2.5, centre=0.0)
    means = tasks.means(3000, 0)
    distances = np.linalg.norm(means[:, :, None] - means[:, None], axis=-1)
    off = ~np.eye(ways, dtype=bool)
    np.testing.assert_allclose(distances[:, off], 2.5, rtol=1e-12)
    np.testing.assert_allclose(means.mean(axis=1), 0, atol=1e-12)
    # Every class has its mean, in the mean over tasks, at the centre, with the same spread along all axes.
    variance = 2.5**2 / 2 * (ways - 1) / ways / means.shape[-1]
    for label in range(ways):
        for axis in range(means.shape[-1]):
            assert_mean(means[:, label, axis], 0.0)
            if means.shape[-1] > 1:
                assert_mean(means[:, label, axis] ** 2, variance)
    if means.shape[-1] > 1:
        assert_mean(means[:, 0, 0] * means[:, 0, 1], 0.0)


def test_centres_of_blobs_are_gaussian():
    centres = Blobs(3, 1, 1, centre=2.0).means(2000, 0).mean(axis=1)
    assert stats.kstest(centres.ravel(), stats.norm(0, 2).cdf).pvalue > LEVEL


@pytest.mark.parametrize(
    ("ways", "features", "separation"), [(2, 1, 1.0), (2, 2, 2.0), (5, 4, 1.0), (5, 8, 3.0), (20, 32, 4.0)]
)
def test_the_classifier_that_knows_the_means_has_the_bayes_accuracy(ways, features, separation):
    tasks = Blobs(ways, 1, 10, features=features, separation=separation)
    n_tasks = 60_000 // (ways * 10)
    episode, means = tasks.sample(n_tasks, 11, REFERENCE), tasks.means(n_tasks, 11)
    distances = np.linalg.norm(episode.query_x[:, :, None] - means[:, None], axis=-1)
    right = (distances.argmin(axis=-1) == episode.query_y).mean(axis=1)
    assert_mean(right, tasks.bayes_accuracy)


def test_bayes_accuracy_has_its_known_values():
    assert Blobs(7, 1, 1, separation=0.0).bayes_accuracy == pytest.approx(1 / 7, abs=1e-12)
    for separation in (0.5, 2.0, 5.0):
        accuracy = Blobs(2, 1, 1, separation=separation).bayes_accuracy
        assert accuracy == pytest.approx(stats.norm.cdf(separation / 2), abs=1e-12)
    assert Blobs(5, 1, 1, separation=40.0).bayes_accuracy == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("family", [*FAMILIES, Bandits(), Navigation()], ids=name)
@pytest.mark.parametrize(
    ("n_tasks", "rng", "backend", "named"),
    [
        (0, 0, REFERENCE, "n_tasks"),
        (2.0, 0, REFERENCE, "n_tasks"),
        (True, 0, REFERENCE, "n_tasks"),
        (2, -1, REFERENCE, "rng"),
        (2, "seed", REFERENCE, "rng"),
        (2, 0, "numpy", "backend"),
        (2, 0, torch, "backend"),
        (2, 0, None, "backend"),
    ],
)
def test_bad_arguments_of_sample_are_named(family, n_tasks, rng, backend, named):
    with pytest.raises(SettingError, match=named):
        family.sample(n_tasks, rng, backend)


def test_bayes_says_which_shape_is_wrong():
    episode = LINEAR.sample(2, 0, REFERENCE)
    with pytest.raises(mltk.errors.ShapeError, match="query_x"):
        LINEAR.bayes_predict(episode.support_x, episode.support_y, episode.query_x[:1])
    with pytest.raises(mltk.errors.ShapeError, match="support_y"):
        LINEAR.bayes_predict(episode.support_x, episode.support_y[..., 0], episode.query_x)
    with pytest.raises(mltk.errors.ShapeError, match="support_x"):
        LINEAR.bayes_error(episode.support_x[..., :2], episode.query_x)
