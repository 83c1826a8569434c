"""Bayesian ridge regression as a learner: its gradient, its doubt, and what the evidence makes of a task."""

from functools import partial

import numpy as np
import pytest
from assertions import routes_agree, slopes
from routes import NUMPY

import mltk
from mltk import tree
from mltk.algorithms import BayesianRidge, RidgeRegression
from mltk.errors import ShapeError
from mltk.heads import BayesianRidgeHead, RidgeHead
from mltk.heads.evidence import largest_evidence

WAVES = mltk.data.Sinusoid(10, 10, noise=0.1)
LEARNER = BayesianRidge(mltk.models.mlp([1, 8, 6], activation="tanh"), scale=1.0)
LINES = mltk.data.LinearRegression(20, 20, features=3, noise=0.5)
ITSELF = BayesianRidge(mltk.models.Sequential([]), scale=1.0)


def adapted(learner, tasks, count):
    episode = tasks.sample(count, 0, NUMPY)
    meta = learner.init(NUMPY, 0)
    return episode, learner.adapt(meta, episode.support_x, episode.support_y)


def test_gradient_of_a_regression_through_evidence_and_embedding():
    _, grads = routes_agree(LEARNER, lambda backend: WAVES.sample(3, 0, backend), tolerance=1e-8)
    assert {name: leaf.shape for name, leaf in tree.flatten(grads).items()} == LEARNER.meta_shapes
    episode, at = WAVES.sample(3, 0, NUMPY), LEARNER.init(NUMPY, 0)
    by_gradient, by_differences = slopes(lambda meta: LEARNER.value_and_grad(meta, episode)[0], grads, at)
    assert by_gradient == pytest.approx(by_differences, rel=1e-5)


def test_the_choice_of_the_regulariser_is_differentiated():
    """Without it the gradient is that of ridge regression, and another one."""
    rng = np.random.default_rng(0)
    x, q, gy = rng.normal(size=(2, 9, 4)), rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 3, 1))
    y = x @ rng.normal(size=(2, 4, 1)) + rng.normal(size=(2, 9, 1))
    reg_lambda = largest_evidence(x, y)[0]
    bayes = BayesianRidgeHead(scale=1.0, learn_scale=False, learn_bias=False)
    for task in range(2):
        ridge = RidgeHead(
            float(reg_lambda[task]), scale=1.0, learn_scale=False, learn_bias=False, learn_lambda=False
        )
        one = [array[task : task + 1] for array in (x, y, q)]
        (found, residuals), (fixed, others) = (head.forward({}, *one) for head in (bayes, ridge))
        np.testing.assert_allclose(found, fixed, rtol=1e-10)
        moved, held = (
            head.vjp({}, kept, gy[task : task + 1])[1] for head, kept in ((bayes, residuals), (ridge, others))
        )
        assert np.abs(moved - held).max() > 1e-3 * np.abs(held).max()


def test_predictions_have_the_variance_of_the_posterior():
    episode, state = adapted(ITSELF, LINES, 4)
    state["head"] = {"scale": np.asarray(2.0), "bias": np.asarray(0.5)}
    found = ITSELF.predictive(state, episode.query_x)
    np.testing.assert_array_equal(found.mean, ITSELF.predict(state, episode.query_x))
    best = mltk.heads.evidence(episode.support_x, episode.support_y)
    for task in range(4):
        x, query = episode.support_x[task], episode.query_x[task]
        alpha, beta = best.alpha[task, 0], best.beta[task, 0]
        covariance = np.linalg.inv(alpha * np.eye(3) + beta * x.T @ x)
        mean = beta * query @ covariance @ x.T @ episode.support_y[task]
        np.testing.assert_allclose(found.mean[task], 2 * mean + 0.5, rtol=1e-8)
        np.testing.assert_allclose(found.aleatoric[task], 4 / beta)
        np.testing.assert_allclose(found.epistemic[task, :, 0], 4 * np.diag(query @ covariance @ query.T))


def test_intervals_hold_what_is_to_come():
    """Weights and noise are Gaussian: 95 % intervals hold nearly so much, prior and noise being estimated."""
    episode, state = adapted(ITSELF, LINES, 400)
    found = ITSELF.predictive(state, episode.query_x)
    off = (episode.query_y - found.mean) / np.sqrt(found.aleatoric + found.epistemic)
    assert np.mean(np.abs(off) < 1.96) == pytest.approx(0.94, abs=0.01)
    assert np.mean(off**2) == pytest.approx(1.1, abs=0.1)
    assert np.sqrt(found.aleatoric).mean() == pytest.approx(0.5, abs=0.03)


def test_learns_to_regress_and_is_found_again(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    learner = BayesianRidge(mltk.models.mlp([1, 40, 40], activation="tanh"), scale=1.0)
    run = mltk.train(learner, WAVES, backend=mltk.backend("numpy"), steps=200, meta_batch=8, out="here")
    saved = mltk.load_run("here")
    assert saved.algorithm == learner
    before, after = (
        mltk.evaluate(saved.algorithm, meta, WAVES, episodes=100).mean
        for meta in (learner.init(mltk.backend("numpy"), 0), saved.run.meta_params)
    )
    assert after < 0.5 * before
    assert after == mltk.evaluate(learner, run.meta_params, WAVES, episodes=100).mean


def test_classes_need_no_regulariser():
    """What the evidence chooses for a task is as good as the best of those that are chosen for all."""
    for shots, separation in ((5, 3.0), (5, 2.0)):
        tasks = mltk.data.Blobs(ways=5, shots=shots, queries=15, separation=separation)
        kinds = [BayesianRidge, *(partial(RidgeRegression, reg_lambda=strength) for strength in (0.01, 1.0))]
        learners = [kind(mltk.models.Sequential([])) for kind in kinds]
        found = [mltk.evaluate(each, each.init(NUMPY, 0), tasks, episodes=400).mean for each in learners]
        assert found[0] > max(found[1:]) - 0.003


def test_one_example_says_nothing_of_the_noise():
    """Its evidence is the same for all priors: the strongest is taken, and the gradient is finite."""
    episode, state = adapted(LEARNER, mltk.data.Sinusoid(1, 4), 3)
    assert np.abs(LEARNER.predict(state, episode.query_x)).max() < 1e-8
    _, grads = LEARNER.value_and_grad(LEARNER.init(NUMPY, 0), episode)
    assert all(np.isfinite(leaf).all() for leaf in tree.leaves(grads))


def test_one_example_of_each_class_is_refused():
    """One-hot targets that are all different are white noise: the evidence is largest for weights of zero."""
    x = np.random.default_rng(0).normal(size=(50, 5, 8))
    found = mltk.heads.evidence(x, np.tile(np.eye(5), (50, 1, 1)), shared=True)
    assert np.abs(found.weights).max() < 1e-8
    episode = mltk.data.Blobs(5, 1, 2).sample(2, 0, NUMPY)
    meta = ITSELF.init(NUMPY, 0)
    for refused in (
        lambda: ITSELF.adapt(meta, episode.support_x, episode.support_y),
        lambda: ITSELF.value_and_grad(meta, episode),
    ):
        with pytest.raises(ShapeError, match="support_y has 5 labels of 5 classes"):
            refused()
