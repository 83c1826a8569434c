"""Evaluation: the right metric, an honest interval, and tasks that depend on the seed alone."""

import math

import numpy as np
import pytest
from scipy import stats

import mltk
from mltk.errors import NotFiniteError, SettingError, ShapeError
from mltk.evaluation import Interval

REGRESSION = mltk.data.Sinusoid(shots=5, queries=7)
LEARNER = mltk.algorithms.MAML(mltk.models.mlp([1, 8, 1]), "mse", inner_steps=2)


class Memory:
    """A learner that returns the mean support target, or the label of the nearest support example."""

    def __init__(self, ways=None):
        self.ways = ways

    def adapt(self, meta_params, support_x, support_y):
        return support_x, support_y

    def predict(self, state, query_x):
        support_x, support_y = state
        if self.ways is None:
            return np.broadcast_to(support_y.mean(axis=1, keepdims=True), (*query_x.shape[:2], 1))
        distances = ((query_x[:, :, None] - support_x[:, None]) ** 2).sum(axis=-1)
        nearest = np.take_along_axis(support_y, distances.argmin(axis=-1), axis=1)
        return np.eye(self.ways)[nearest]


def blobs(separation):
    return mltk.data.Blobs(ways=3, shots=4, queries=5, features=2, separation=separation)


@pytest.mark.parametrize("batch", [1, 7, 20, 45, 1000])
def test_the_result_does_not_depend_on_the_batch(backend64, batch):
    meta = LEARNER.init(backend64, 0)
    expected = mltk.evaluate(LEARNER, meta, REGRESSION, episodes=67, seed=4)
    found = mltk.evaluate(LEARNER, meta, REGRESSION, episodes=67, seed=4, batch=batch)
    np.testing.assert_allclose(found.values, expected.values, rtol=1e-12)
    assert found.values.shape == (67,)


def test_the_seed_decides_the_tasks_and_a_longer_evaluation_starts_like_a_shorter_one():
    meta = LEARNER.init(mltk.backend("numpy"), 0)
    long, short, other = (
        mltk.evaluate(LEARNER, meta, REGRESSION, episodes=episodes, seed=seed).values
        for episodes, seed in ((50, 1), (30, 1), (30, 2))
    )
    np.testing.assert_array_equal(long[:30], short)
    assert not np.intersect1d(other, short).size
    assert len(np.unique(long)) == 50


def test_backends_agree(backend64):
    found = mltk.evaluate(LEARNER, LEARNER.init(backend64, 0), REGRESSION, episodes=25)
    reference = LEARNER.init(mltk.backend("numpy", dtype="float64"), 0)
    expected = mltk.evaluate(LEARNER, reference, REGRESSION, episodes=25)
    np.testing.assert_allclose(found.values, expected.values, rtol=1e-10)


def test_regression_is_judged_by_the_mean_squared_error():
    backend = mltk.backend("numpy", dtype="float64")
    found = mltk.evaluate(Memory(), {}, REGRESSION, episodes=20, seed=9, backend=backend)
    rng = np.random.default_rng(np.random.SeedSequence(9, spawn_key=(1, 0)))
    episode = REGRESSION.sample(20, rng, backend)
    error = episode.query_y - episode.support_y.mean(axis=1, keepdims=True)
    assert found.metric == "mse"
    np.testing.assert_allclose(found.values, (error**2).mean(axis=(1, 2)), rtol=1e-12)


def test_classification_is_judged_by_the_accuracy():
    backend = mltk.backend("numpy", dtype="float64")
    far, near = (
        mltk.evaluate(Memory(ways=3), {}, blobs(separation), episodes=40, backend=backend)
        for separation in (1000.0, 0.001)
    )
    assert (far.metric, near.metric) == ("accuracy", "accuracy")
    assert far.mean > 0.95
    assert near.mean == pytest.approx(1 / 3, abs=0.1)
    # 15 queries a task
    np.testing.assert_allclose(near.values * 15, np.round(near.values * 15), atol=1e-9)


def test_mean_and_interval_are_students():
    meta = LEARNER.init(mltk.backend("numpy"), 0)
    found = mltk.evaluate(LEARNER, meta, REGRESSION, episodes=12)
    low, high = stats.t.interval(0.95, 11, loc=found.values.mean(), scale=stats.sem(found.values))
    assert found.mean == pytest.approx((low + high) / 2)
    assert found.interval().half_width == pytest.approx((high - low) / 2)
    assert mltk.evaluate(LEARNER, meta, REGRESSION, episodes=1).interval().half_width == math.inf


@pytest.mark.parametrize(
    ("half", "text"),
    [
        (0.0449, "0.812 [0.767, 0.857] (95 % interval over 600 tasks)"),
        (0.0000067, "0.8123000 [0.8122933, 0.8123067] (95 % interval over 600 tasks)"),
        (123.4, "1 [-123, 124] (95 % interval over 600 tasks)"),
        (math.inf, "0.812 [-inf, inf] (95 % interval over 600 tasks)"),
        (0.0, "0.812 [0.812, 0.812] (95 % interval over 600 tasks)"),
    ],
)
def test_the_text_shows_two_digits_of_the_interval(half, text):
    assert str(Interval(0.8123, 0.8123 - half, 0.8123 + half, "tasks", units=600)) == text


def test_predictions_that_are_not_finite_are_an_error():
    learner = mltk.algorithms.MAML(mltk.models.mlp([1, 8, 1]), "mse", inner_lr=1e30, inner_steps=5)
    meta = learner.init(mltk.backend("numpy"), 0)
    with np.errstate(all="ignore"), pytest.raises(NotFiniteError, match="task 0"):
        mltk.evaluate(learner, meta, REGRESSION, episodes=3)


def test_tasks_with_more_classes_than_the_network_has_outputs_are_an_error(backend32):
    learner = mltk.algorithms.MAML(mltk.models.mlp([5, 8, 3]), "cross_entropy")
    with pytest.raises(ShapeError, match="the model has 3 outputs; expected at least as many as ways, 5"):
        mltk.evaluate(learner, learner.init(backend32, 0), mltk.data.Blobs(5, 1, 1), episodes=2)


@pytest.mark.parametrize("option", [{"episodes": 0}, {"batch": 0}, {"seed": -1}, {"backend": "numpy"}])
def test_settings_are_checked(option):
    meta = LEARNER.init(mltk.backend("numpy"), 0)
    with pytest.raises(SettingError, match=next(iter(option))):
        mltk.evaluate(LEARNER, meta, REGRESSION, **{"episodes": 3, **option})


class RandomImages:
    """Tasks of noise: what is measured is not how well they are solved."""

    def sample(self, n_tasks, rng, backend):
        parts = []
        for count in (3, 6):
            labels = np.tile(np.arange(count) % 3, (n_tasks, 1))
            parts += [backend.asarray(rng.random((n_tasks, count, 1, 16, 16))), backend.asarray(labels)]
        return mltk.Episode(*parts, ways=3, backend=backend)


def maml(statistics):
    model = mltk.models.conv4(1, 16, width=8, out_features=3, statistics=statistics)
    return mltk.algorithms.MAML(model, "cross_entropy", inner_lr=0.1, inner_steps=2)


def prototypical(statistics):
    return mltk.algorithms.Prototypical(mltk.models.conv4(1, 16, width=8, statistics=statistics))


@pytest.mark.parametrize("learner", [maml, prototypical])
@pytest.mark.parametrize(
    ("statistics", "leaks"), [("batch", True), ("support", False), ("population", False)]
)
def test_batch_statistics_leak_the_query_set_and_the_others_do_not(learner, statistics, leaks, backend32):
    algorithm = learner(statistics)
    meta = algorithm.init(backend32, 0)
    meta = algorithm.calibrate(meta, RandomImages(), episodes=5)
    found = mltk.evaluate(algorithm, meta, RandomImages(), episodes=3)
    assert found.transductive is leaks
    # And by the predictions themselves: the last query replaced, what happens to the first?
    episode = RandomImages().sample(2, np.random.default_rng(0), backend32)
    state = algorithm.adapt(meta, episode.support_x, episode.support_y)
    before, after = (
        backend32.to_numpy(
            algorithm.predict(state, backend32.xp.concat([episode.query_x[:, :-1], last], axis=1))
        )
        for last in (episode.query_x[:, -1:], 0 * episode.query_x[:, -1:])
    )
    change = np.abs(after - before)[:, 0].max()
    assert change > 1e-4 if leaks else change == 0


class Leaking(Memory):
    """Predictions that the other queries change: by their values, order or number, or by noise."""

    def __init__(self, how, ways=None):
        super().__init__(ways)
        self.how = how
        self.rng = np.random.default_rng(0)

    def predict(self, state, query_x):
        own = super().predict(state, query_x) + query_x[..., :1]
        if self.how == "mean":
            return own + 1e-6 * query_x.mean(axis=1, keepdims=True)[..., :1]
        if self.how == "earlier":
            return own + 1e-3 * np.cumsum(query_x, axis=1)[..., :1]
        if self.how == "rank":
            return own + np.argsort(np.argsort(query_x[..., :1], axis=1), axis=1)
        if self.how == "duplicates":
            return own + (query_x == query_x.swapaxes(1, 2)).sum(axis=-1, keepdims=True)
        if self.how == "later":
            return own + 1e-3 * query_x[:, -1:]
        if self.how == "overflow":
            return own + 0 * np.exp(np.abs(query_x)).max(axis=1, keepdims=True)
        return own + {"noise": 0.1, "rounding": 1e-6}[self.how] * self.rng.standard_normal(own.shape)


@pytest.mark.parametrize(
    ("how", "leaks"),
    [
        ("mean", True),
        ("earlier", True),
        ("later", True),
        ("rank", True),
        ("duplicates", True),
        ("overflow", True),
        ("noise", False),
        ("rounding", False),
    ],
)
def test_weak_and_one_sided_leaks_are_found_and_noise_is_none(how, leaks):
    backend = mltk.backend("numpy")
    for seed in range(5):
        found = mltk.evaluate(Leaking(how), {}, REGRESSION, episodes=2, seed=seed, backend=backend)
        assert found.transductive is leaks


def test_a_single_query_has_no_others():
    source = mltk.data.Sinusoid(shots=5, queries=1)
    backend = mltk.backend("numpy")
    assert not mltk.evaluate(Leaking("mean"), {}, source, episodes=2, backend=backend).transductive
