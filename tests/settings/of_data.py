"""Settings of task families and of environments of policies."""

import numpy as np
import pytest
from experiments import close, shows, within
from faults import BrokenError, Raising
from routes import NUMPY

from mltk.data import Bandits, Blobs, Harmonic, LinearRegression, Mixture, Navigation, Retrying, Sinusoid

MANY = 4000
SMALL = {Sinusoid: (3, 4), Harmonic: (3, 4), LinearRegression: (3, 4), Blobs: (5, 3, 4)}


def near(found, expected):
    """An estimate from thousands of draws."""
    assert found == pytest.approx(expected, rel=0.1)


def sample(tasks, count=MANY):
    return tasks.sample(count, 0, NUMPY)


@shows(*SMALL, of="shots")
@shows(*SMALL, of="queries")
def how_many_examples(kind):
    for shots, queries in ((2, 5), (4, 1)):
        episode = sample(kind(*SMALL[kind][:-2], shots, queries), 3)
        each = 5 if kind is Blobs else 1
        assert episode.support_x.shape[:2] == (3, shots * each)
        assert episode.query_x.shape[:2] == (3, queries * each)


@shows(Blobs, of="ways")
def how_many_classes(kind):
    for ways in (2, 6):
        episode = sample(kind(ways, 1, 1), 3)
        assert episode.ways == ways
        assert set(episode.support_y[0]) == set(range(ways))


@shows(Blobs, LinearRegression, of="features")
def how_long_inputs_are(kind):
    for features in (4, 7):
        assert sample(kind(*SMALL[kind], features=features), 2).support_x.shape[-1] == features
    assert sample(Blobs(6, 1, 1), 2).support_x.shape[-1] == 6


@shows(Blobs, of="separation")
def how_far_means_are_apart(kind):
    for distance in (1.0, 5.0):
        means = kind(3, 1, 1, separation=distance).means(10, 0)
        for one, other in ((0, 1), (0, 2), (1, 2)):
            close(np.linalg.norm(means[:, one] - means[:, other], axis=-1), np.full(10, distance))


@shows(Blobs, of="centre")
def how_far_centres_are_spread(kind):
    for spread in (0.5, 4.0):
        near(kind(3, 1, 1, centre=spread).means(MANY, 0).mean(1).std(), spread)
    close(kind(3, 1, 1, centre=0.0).means(9, 0).mean(1), np.zeros((9, 3)))


@shows(Sinusoid, Harmonic, LinearRegression, of="noise")
def targets_are_noisy(kind):
    clean, noisy = (sample(kind(*SMALL[kind], noise=noise)) for noise in (0.0, 0.7))
    for x, y, wanted in (
        (noisy.support_x, noisy.support_y, clean.support_y),
        (noisy.query_x, noisy.query_y, clean.query_y),
    ):
        assert x.shape[:2] == y.shape[:2]
        near((y - wanted).std(), 0.7)


def waves(**settings):
    """The curves of many sinusoids on a grid that tells amplitude, frequency and phase."""
    settings = {"amplitude": (1.0, 1.0), "frequency": (1.0, 1.0), "phase": (0.0, 0.0)} | settings
    grid = np.tile(np.linspace(-np.pi, np.pi, 401)[:, None], (MANY // 4, 1, 1))
    return grid, Sinusoid(1, 1, **settings).curves(MANY // 4, 0)(grid)


@shows(Sinusoid, of="amplitude")
def how_high_waves_are(kind):
    within(np.abs(waves(amplitude=(2.0, 3.0))[1]).max(1), 2.0, 3.0)


@shows(Sinusoid, of="frequency")
def how_fast_waves_are(kind):
    grid, y = waves(frequency=(0.5, 0.9))
    within(np.arcsin(y[:, 210, 0]) / grid[:, 210, 0], 0.5, 0.9)


@shows(Sinusoid, of="phase")
def where_waves_begin(kind):
    within(np.arcsin(waves(phase=(0.3, 1.2))[1][:, 200, 0]), 0.3, 1.2)


@shows(Sinusoid, of="x")
def where_inputs_lie(kind):
    episode = sample(kind(3, 4, x=(1.0, 3.0)))
    within(episode.support_x, 1.0, 3.0)
    within(episode.query_x, 1.0, 3.0)


def at_zero(**settings):
    """Harmonic functions at zero, where they are a sum of two amplitudes times sines of phases."""
    return Harmonic(1, 1, **settings).curves(MANY, 0)(np.zeros((MANY, 1, 1)))


@shows(Harmonic, of="amplitude")
def how_high_harmonics_are(kind):
    for amplitude in (1.0, 3.0):
        near(at_zero(amplitude=amplitude).std(), amplitude)  # two, each halved by its sine on average


@shows(Harmonic, of="phase")
def where_harmonics_begin(kind):
    near(at_zero(phase=(np.pi / 2, np.pi / 2)).std(), np.sqrt(2))
    close(at_zero(phase=(0.0, 0.0)), np.zeros((MANY, 1, 1)))


@shows(Harmonic, of="frequency")
def how_fast_harmonics_are(kind):
    h = 1e-4
    for frequency in (2.0, 6.0):
        curves = kind(1, 1, frequency=(frequency, frequency), phase=(0.0, 0.0)).curves(MANY, 0)
        near((curves(np.full((MANY, 1, 1), h)) / h).std(), np.sqrt(5) * frequency)


@shows(Harmonic, of="centre")
def where_harmonic_inputs_lie(kind):
    within(sample(kind(3, 4, centre=(1.0, 3.0), spread=0.0)).support_x, 1.0, 3.0)


@shows(Harmonic, of="spread")
def how_far_inputs_are_spread(kind):
    near(sample(kind(3, 4, centre=(0.0, 0.0), spread=2.0)).query_x.std(), 2.0)


@shows(LinearRegression, of="x_scale")
def how_large_inputs_are(kind):
    near(sample(kind(3, 4, x_scale=2.5)).support_x.std(), 2.5)


def weights(**settings):
    """The weights of noiseless tasks, from as many examples as features."""
    episode = sample(LinearRegression(8, 1, noise=0.0, **settings), 1000)
    return (np.linalg.pinv(episode.support_x) @ episode.support_y)[..., 0]


@shows(LinearRegression, of="prior_mean")
def where_weights_lie(kind):
    found = weights(features=2, prior_mean=(5.0, -3.0)).mean(0)
    np.testing.assert_allclose(found, [5, -3], atol=0.2)


@shows(LinearRegression, of="prior_scale")
def how_far_weights_are_spread(kind):
    near(weights(features=2, prior_scale=3.0).std(), 3.0)


# Environments of policies.


def rollout(source, outputs=2, policy=None, count=5):
    tasks = source.sample(count, 0, NUMPY)
    return tasks, tasks.rollout(policy or (lambda x: np.zeros((*x.shape[:-1], outputs))), 0)


@shows(Bandits, of="arms")
def how_many_arms(kind):
    for arms in (2, 6):
        assert kind(arms).sample(3, 0, NUMPY).means.shape == (3, arms)


@shows(Bandits, Navigation, of="trajectories")
@shows(Bandits, of="pulls")
@shows(Navigation, of="horizon")
def how_many_trajectories_and_how_long(kind):
    for trajectories, horizon in ((2, 5), (4, 3)):
        source = kind(2, trajectories, pulls=horizon) if kind is Bandits else kind(trajectories, horizon)
        _, found = rollout(source)
        assert found.costs.shape == (5, trajectories, horizon)
        assert found.x.shape[1] == trajectories * horizon


@shows(Bandits, of="means")
def the_range_of_the_means(kind):
    within(kind(means=(2.0, 3.0)).sample(MANY, 0, NUMPY).means, 2.0, 3.0)


@shows(Bandits, of="noise")
def rewards_are_noisy(kind):
    for noise in (0.0, 0.5):
        tasks, found = rollout(kind(2, 2000, noise=noise))
        chosen = np.take_along_axis(tasks.means, found.actions[..., 0].astype(int), axis=1)
        assert (found.costs[..., 0] + chosen).std() == pytest.approx(noise, rel=0.1, abs=1e-12)


@shows(Navigation, of="goals")
def where_goals_lie(kind):
    within(kind(goals=(1.0, 3.0)).sample(MANY, 0, NUMPY).goals, 1.0, 3.0)


@shows(Navigation, of="std")
def how_far_velocities_are_spread(kind):
    for std in (0.05, 0.7):
        near(rollout(kind(100, 10, std=std))[1].actions.std(), std)


@shows(Navigation, of="max_step")
def no_step_is_longer(kind):
    for longest in (0.1, 0.4):
        _, found = rollout(kind(3, 6, max_step=longest), policy=lambda x: np.full(x.shape, 5.0))
        paths = found.x.reshape(5, 3, 6, 2)
        close(np.diff(paths, axis=2), np.full((5, 3, 5, 2), longest))


@shows(Retrying, of="tasks")
@shows(Retrying, of="retries")
@shows(Retrying, of="wait")
def how_often_and_how_late_a_draw_is_made_again(kind, monkeypatch):
    naps = []
    monkeypatch.setattr("mltk.data.retrying.time.sleep", naps.append)
    for shots, retries, wait in ((2, 2, 0.5), (4, 4, 3.0)):
        flaky = kind(Raising(Sinusoid(shots, 1), tuple(range(retries))), retries=retries, wait=wait)
        try:
            assert flaky.sample(2, 0, NUMPY).support_x.shape[1] == shots
        except BrokenError as error:
            raise AssertionError from error
        assert naps == [wait * 2**attempt for attempt in range(retries)]
        naps.clear()


SMALL_AND_LARGE = Sinusoid(2, 2, amplitude=(1.0, 1.0)), Sinusoid(2, 2, amplitude=(9.0, 9.0))


def large(mixture, count=MANY):
    """Which tasks are of the second source."""
    return np.abs(np.concatenate([(e := sample(mixture, count)).support_y, e.query_y], 1)).max((1, 2)) > 1


@shows(Mixture, of="sources")
@shows(Mixture, of="weights")
def how_often_a_source_is_drawn_from(kind):
    assert not large(kind(SMALL_AND_LARGE[:1]), 100).any()
    near(large(kind(SMALL_AND_LARGE)).mean(), 0.5 * large(kind(SMALL_AND_LARGE[1:])).mean())
    assert not large(kind(SMALL_AND_LARGE, weights=(2, 0)), 100).any()
    near(large(kind(SMALL_AND_LARGE, weights=(1, 3))).mean(), 0.75 * large(kind(SMALL_AND_LARGE[1:])).mean())


@shows(Mixture, of="together")
def whether_a_draw_is_of_one_source(kind):
    alone = large(kind(SMALL_AND_LARGE[1:])).mean()
    for seed in range(5):
        shares = [
            (np.abs(kind(SMALL_AND_LARGE, together=together).sample(99, seed, NUMPY).support_y) > 1).mean()
            for together in (True, False)
        ]
        assert shares[0] == 0 or shares[0] > 0.7 * alone
        assert 0.2 < shares[1] < 0.7
