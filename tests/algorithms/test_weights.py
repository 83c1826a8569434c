"""Weights of tasks: every learner's meta-gradient is the weighted sum of the gradients of single tasks."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from routes import AUTOGRAD, NUMPY, ROUTES
from test_few_shot_learners import LEARNERS, learner

import mltk
from mltk import tree
from mltk.episode import joined
from mltk.errors import ArrayError, DtypeError, NotFiniteError, SettingError, ShapeError
from mltk.training.weights import weighted_value_and_grad

WEIGHTS = np.array([0.3, 0.0, 2.5])
GLYPHS = mltk.data.Glyphs(2, 5, 4, image_size=16).tasks(3, 2, 2)
SINUSOIDS = mltk.data.Sinusoid(shots=4, queries=3)


def single_tasks(algorithm, meta, episode):
    """The weighted mean of value and gradient of each task alone."""
    value, grads = 0.0, 0.0
    for task, weight in enumerate(episode.weights):
        one = replace(episode.take(slice(task, task + 1)), weights=None)
        own, own_grads = algorithm.value_and_grad(meta, one)
        flat = np.concatenate([np.ravel(episode.backend.to_numpy(leaf)) for leaf in tree.leaves(own_grads)])
        value, grads = value + weight * float(own) / 3, grads + weight * flat / 3
    return value, grads


def check(algorithm, tasks, backend, compute=None):
    meta = algorithm.init(backend, 0)
    episode = replace(tasks.sample(3, 0, backend), weights=WEIGHTS)
    value, grads = (compute or type(algorithm).value_and_grad)(algorithm, meta, episode)
    expected, expected_grads = single_tasks(algorithm, meta, episode)
    found = np.concatenate([np.ravel(backend.to_numpy(leaf)) for leaf in tree.leaves(grads)])
    np.testing.assert_allclose(float(value), expected, rtol=1e-9)
    np.testing.assert_allclose(found, expected_grads, rtol=0, atol=1e-9 * np.abs(expected_grads).max())
    plain = algorithm.value_and_grad(meta, replace(episode, weights=None))[0]
    assert abs(float(plain) - expected) > 1e-3 * abs(expected)


@pytest.mark.parametrize("backend", [NUMPY, AUTOGRAD], ids=["numpy", "autograd"])
@pytest.mark.parametrize("name", LEARNERS)
def test_each_learner_weighs_its_tasks(name, backend):
    check(learner(name), GLYPHS, backend)


@pytest.mark.parametrize("backend", ROUTES, ids=["numpy", "analytic", "autograd"])
@pytest.mark.parametrize("transform", ["Network", "MetaCurvature", "Momentum"])
def test_learned_optimisers_weigh_them_too(transform, backend):
    model = mltk.models.mlp([1, 5, 1])
    check(
        mltk.algorithms.LearnedOptimizer(model, "mse", getattr(mltk.optim.transforms, transform)(), 2),
        SINUSOIDS,
        backend,
    )


@dataclass(frozen=True)
class Deaf:
    """A learner of somebody's own, which knows nothing of weights."""

    inner: mltk.algorithms.MAML

    def init(self, backend, seed):
        return self.inner.init(backend, seed)

    def adapt(self, meta_params, support_x, support_y):
        return self.inner.adapt(meta_params, support_x, support_y)

    def predict(self, state, query_x):
        return self.inner.predict(state, query_x)

    def value_and_grad(self, meta_params, episode):
        assert episode.weights is None
        return self.inner.value_and_grad(meta_params, episode)


@dataclass(frozen=True)
class Weighted:
    """Sinusoids of which each counts differently."""

    def sample(self, n_tasks, rng, backend):
        return replace(SINUSOIDS.sample(n_tasks, rng, backend), weights=WEIGHTS)


@pytest.mark.parametrize("backend", [NUMPY, AUTOGRAD], ids=["numpy", "autograd"])
def test_training_weighs_the_tasks_of_a_learner_that_does_not_know_of_weights(backend):
    maml = mltk.algorithms.MAML(mltk.models.mlp([1, 5, 1]), "mse")
    check(Deaf(maml), SINUSOIDS, backend, lambda own, *rest: weighted_value_and_grad(own, *rest))
    ends = []
    for algorithm in (maml, Deaf(maml)):
        run = mltk.train(algorithm, Weighted(), backend=backend, steps=5, meta_batch=3, seed=0)
        ends.append(tree.flatten(run.meta_params))
    for name in ends[0]:
        np.testing.assert_allclose(*(backend.to_numpy(end[name]) for end in ends), rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["MAML", "prototypical"])
def test_importance_weights_leave_the_expected_gradient_as_it_is(name):
    """Of three tasks, two are drawn by any proposal: the sum over all draws, each with its probability."""
    algorithm, pool = learner(name), GLYPHS.sample(3, 0, NUMPY)
    meta, tasks = algorithm.init(NUMPY, 0), [pool.take(slice(task, task + 1)) for task in range(3)]
    q = np.array([0.6, 0.1, 0.3])

    def expected(weigh):
        total = 0.0
        for a in range(3):
            for b in range(3):
                draw = replace(joined([tasks[a], tasks[b]]), weights=weigh(np.array([a, b])))
                value, grads = algorithm.value_and_grad(meta, draw)
                flat = np.concatenate([np.ravel(leaf) for leaf in (value, *tree.leaves(grads))])
                total = total + q[a] * q[b] * flat
        return total

    value, grads = algorithm.value_and_grad(meta, pool)
    uniform = np.concatenate([np.ravel(leaf) for leaf in (value, *tree.leaves(grads))])
    scale = np.abs(uniform).max()
    np.testing.assert_allclose(expected(lambda draw: 1 / (3 * q[draw])), uniform, rtol=0, atol=1e-12 * scale)
    assert (
        np.abs(expected(lambda draw: np.ones(2)) - uniform).max() > 1e-3 * scale
    )  # without them it is biased


def test_they_travel_with_their_tasks():
    episode = replace(SINUSOIDS.sample(3, 0, NUMPY), weights=WEIGHTS)
    assert episode.take(slice(1, 3)).weights.tolist() == [0.0, 2.5]
    assert episode.to(AUTOGRAD).weights is WEIGHTS
    both = joined([episode, SINUSOIDS.sample(2, 1, NUMPY)])
    assert both.weights.tolist() == [0.3, 0.0, 2.5, 1.0, 1.0]
    assert joined([SINUSOIDS.sample(2, 1, NUMPY)] * 2).weights is None
    assert "weights" in str(episode)


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        ([1.0, 1.0, 1.0], ArrayError, "list"),
        (np.ones(3, int), DtypeError, "floating"),
        (np.ones(2), ShapeError, r"\(3,\)"),
        (np.array([1, np.nan, 1]), NotFiniteError, "NaN"),
        (np.array([1, -0.5, 1]), SettingError, "-0.5"),
    ],
)
def test_what_they_must_be(weights, error, message):
    episode = SINUSOIDS.sample(3, 0, NUMPY)
    with pytest.raises(error, match=message):
        replace(episode, weights=weights)
