"""The exact posterior of a sinusoid, against sums over its prior, its limits, and finer rules."""

import numpy as np
import pytest
from routes import NUMPY

from mltk.data import Sinusoid
from mltk.data.families import sinusoid_posterior
from mltk.data.families.sinusoid_posterior import posterior
from mltk.errors import SettingError, ShapeError

RANGES = {"amplitude": (0.1, 5.0), "phase": (0.0, np.pi)}


def observed(shots, noise, tasks, seed=0):
    episode = Sinusoid(shots, 1, noise=noise).sample(tasks, seed, NUMPY)
    x = episode.support_x
    return np.concatenate([np.sin(x), np.cos(x)], axis=-1), episode.support_y[..., 0]


def by_sums(rows, y, noise, points=1500):
    """Mean and covariance by midpoints of the prior."""
    a, b = ((np.arange(points) + 0.5) / points * (high - low) + low for low, high in RANGES.values())
    curve = np.stack([a[:, None] * np.cos(b), a[:, None] * np.sin(b)])
    weight = np.exp(-np.sum((np.tensordot(rows, curve, 1) - y[:, None, None]) ** 2, axis=0) / 2 / noise**2)
    weight /= weight.sum()
    mean = np.sum(weight * curve, axis=(1, 2))
    return mean, np.einsum("iab,jab,ab->ij", curve, curve, weight) - np.outer(mean, mean)


@pytest.mark.parametrize(("shots", "noise"), [(1, 2.0), (1, 0.4), (3, 0.4), (5, 1.0)])
def test_the_posterior_is_that_by_sums_over_the_prior(shots, noise):
    rows, y = observed(shots, noise, 2)
    means, covariances = posterior(rows, y, **RANGES, noise=noise)
    for task in range(2):
        mean, covariance = by_sums(rows[task], y[task], noise)
        np.testing.assert_allclose(means[task], mean, atol=1e-4)
        np.testing.assert_allclose(covariances[task], covariance, atol=1e-3)


@pytest.mark.parametrize("shots", [1, 2, 5])
def test_without_noise_it_is_the_limit_of_small_noise(shots):
    rows, y = observed(shots, 0.0, 20)
    exact = posterior(rows, y, **RANGES, noise=0.0)
    for found, expected in zip(posterior(rows, y, **RANGES, noise=1e-5), exact, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)
        assert np.median(np.abs(found - expected)) < 1e-7


@pytest.mark.parametrize(
    ("shots", "noise", "tasks", "atol"),
    [(1, 0.5, 10, 1e-8), (4, 0.05, 10, 1e-8), (1, 0.01, 50, 5e-6), (1, 0.001, 50, 5e-6)],
)
def test_a_finer_rule_gives_the_same(shots, noise, tasks, atol, monkeypatch):
    rows, y = observed(shots, noise, tasks)
    coarse = posterior(rows, y, **RANGES, noise=noise)
    for name, value in {"PANELS": 300, "SMOOTH": 0.5, "DROP": 60.0, "AMPLITUDES": 60}.items():
        monkeypatch.setattr(sinusoid_posterior, name, value)
    for one, other in zip(coarse, posterior(rows, y, **RANGES, noise=noise), strict=True):
        np.testing.assert_allclose(one, other, atol=atol)


@pytest.mark.parametrize(("shots", "noise"), [(1, 0.0), (2, 0.5)])
def test_the_error_that_is_expected_is_met(shots, noise):
    tasks = Sinusoid(shots, 20, noise=noise)
    episode = tasks.sample(500, 3, NUMPY)
    parts = episode.support_x, episode.support_y, episode.query_x
    met = np.mean((tasks.bayes_predict(*parts) - episode.query_y) ** 2, axis=(1, 2))
    difference = met - tasks.bayes_error(*parts)
    assert abs(difference.mean()) < 4 * difference.std() / np.sqrt(500)


def test_what_has_no_posterior_is_refused():
    parts = (np.zeros((1, 1, 1)), np.full((1, 1, 1), 9.0), np.zeros((1, 2, 1)))
    with pytest.raises(SettingError, match="not of this family"):
        Sinusoid(1, 2).bayes_predict(*parts)
    with pytest.raises(SettingError, match="frequency"):
        Sinusoid(1, 2, frequency=(0.8, 1.2)).bayes_predict(*parts)
    with pytest.raises(SettingError, match="phase"):
        Sinusoid(1, 2, phase=(1.0, 1.0)).bayes_predict(*parts)
    with pytest.raises(ShapeError, match="support_y"):
        Sinusoid(1, 2).bayes_predict(parts[0], np.zeros((1, 2, 1)), parts[2])
