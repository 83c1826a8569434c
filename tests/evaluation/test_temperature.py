"""The temperature: derivatives by the complex step, the optimum by SciPy, and a factor that is known."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp, softmax

import mltk
from mltk.errors import MltkError, SettingError
from mltk.evaluation import fit_temperature, nll
from mltk.evaluation.temperature import nll_slopes


def drawn(seed, tasks=300, factor=1.0, ways=4):
    """Logits that are too sure by a factor, and labels."""
    rng = np.random.default_rng(seed)
    z = 1.5 * rng.normal(size=(tasks, 5, ways))
    y = (softmax(z, axis=-1).cumsum(-1) > rng.random((tasks, 5, 1))).argmax(-1)
    return factor * z, y


def loss(z, y, factor):
    picked = np.take_along_axis(z, y[..., None], axis=-1)[..., 0]
    return np.mean(np.log(np.sum(np.exp(factor * z), axis=-1)) - factor * picked)


@given(st.integers(0, 1000), st.floats(0.01, 5))
def test_derivatives_are_those_of_the_complex_step(seed, factor):
    z, y = drawn(seed, tasks=4)
    z = z - z.max(axis=-1, keepdims=True)
    slope, curvature = nll_slopes(z, y, factor)
    assert slope == pytest.approx(loss(z, y, factor + 1e-30j).imag / 1e-30, abs=1e-12)
    step = 1e-5
    differences = (nll_slopes(z, y, factor + step)[0] - nll_slopes(z, y, factor - step)[0]) / (2 * step)
    assert curvature == pytest.approx(differences, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("factor", [1e-300, 1e-4, 0.5, 1, 7, 1e4, 1e300])
def test_the_optimum_is_that_of_scipy(factor):
    z, y = drawn(0, factor=factor)
    found = fit_temperature(z, y)

    def lost(log_t):
        picked = np.take_along_axis(z, y[..., None], axis=-1)[..., 0]
        return np.mean(logsumexp(z / np.exp(log_t), axis=-1) - picked / np.exp(log_t))

    guess = np.log(factor)
    best = minimize_scalar(lost, bracket=(guess - 0.2, guess + 0.2), tol=1e-12)
    assert np.log(found) == pytest.approx(best.x, abs=1e-6)
    assert nll(softmax(z / found, axis=-1), y) <= best.fun + 1e-14


def test_a_known_factor_is_found_and_helps_on_unseen_tasks():
    found = fit_temperature(*drawn(0, tasks=4000, factor=3.0))
    assert found == pytest.approx(3, rel=0.03)
    z, y = drawn(1, tasks=500, factor=3.0)
    assert nll(softmax(z / found, axis=-1), y) < nll(softmax(z, axis=-1), y) - 0.2
    assert ((z / found).argmax(-1) == z.argmax(-1)).all()


def test_where_there_is_none_it_is_told():
    z = np.tile([[4.0, 0.0]], (4, 1))
    with pytest.raises(SettingError, match="temperature is zero"):
        fit_temperature(z, np.zeros(4, dtype=int))
    for labels in ([1, 1, 1, 1], [0, 0, 1, 1]):
        with pytest.raises(SettingError, match="no more about labels than chance"):
            fit_temperature(z, np.asarray(labels))
    with pytest.raises(SettingError, match="chance"):
        fit_temperature(0 * z, np.zeros(4, dtype=int))


def test_torch_has_the_same_number():
    z, y = drawn(0)
    torch = mltk.backend("torch", dtype="float64")
    assert fit_temperature(torch.asarray(z), torch.asarray(y)) == fit_temperature(z, y)


def test_logits_that_are_none_are_told():
    with pytest.raises(MltkError, match="logits holds NaN"):
        fit_temperature(np.full((2, 2), np.nan), np.zeros(2, dtype=int))


def test_a_tempered_learner_is_evaluated_and_as_accurate():
    backend = mltk.backend("numpy", dtype="float64")
    tasks = mltk.data.Blobs(4, 1, 5, features=3)
    learner = mltk.algorithms.Prototypical(mltk.models.mlp([3, 6]))
    meta = learner.init(backend, 0)
    found = mltk.evaluation.tempered(learner, meta, tasks, episodes=50, seed=1)
    evaluated = [mltk.evaluate(each, meta, tasks, episodes=50, seed=1) for each in (learner, found)]
    np.testing.assert_array_equal(evaluated[0].values, evaluated[1].values)
    episode = tasks.sample(200, 5, backend)
    losses = []
    for each in (learner, found):
        logits = each.predict(each.adapt(meta, episode.support_x, episode.support_y), episode.query_x)
        losses.append(nll(softmax(logits, axis=-1), episode.query_y))
    assert losses[1] < losses[0]
    value, _ = found.value_and_grad(meta, episode)
    assert value == learner.value_and_grad(meta, episode)[0]
    with pytest.raises(SettingError, match="regression"):
        mltk.evaluation.tempered(learner, meta, mltk.data.Sinusoid(3, 3), episodes=20)


def test_tasks_may_have_different_numbers_of_queries_but_not_of_classes():
    backend, sizes = mltk.backend("numpy", dtype="float64"), []

    class Uneven:
        def __init__(self, *families):
            self.families = families

        def sample(self, n_tasks, rng, backend):
            drawn = self.families[len(sizes) % 2].sample(n_tasks, rng, backend)
            sizes.append(drawn.query_y.size)
            return drawn

    learner = mltk.algorithms.Prototypical(mltk.models.mlp([3, 6]))
    meta = learner.init(backend, 0)
    few, many = (mltk.data.Blobs(3, 1, queries, features=3) for queries in (2, 9))
    found = mltk.evaluation.tempered(learner, meta, Uneven(few, many), episodes=40, seed=1)
    sizes.clear()
    episodes = [
        family.sample(20, mltk.evaluation.blocks.block_generator(1, block), backend)
        for block, family in enumerate((few, many))
    ]
    logits = [
        learner.predict(learner.adapt(meta, e.support_x, e.support_y), e.query_x).reshape(-1, 3)
        for e in episodes
    ]
    labels = np.concatenate([e.query_y.ravel() for e in episodes])
    assert found.temperature == pytest.approx(fit_temperature(np.concatenate(logits), labels), rel=1e-9)
    uneven = Uneven(few, mltk.data.Blobs(4, 1, 2, features=3))
    with pytest.raises(MltkError, match=r"for \[3, 4\] classes; expected equally many"):
        mltk.evaluation.tempered(learner, meta, uneven, episodes=40)


def test_weights_of_tasks_reach_a_learner_of_ones_own():
    class Own:
        def __init__(self, learner):
            self.learner = learner

        def value_and_grad(self, meta_params, episode):
            return self.learner.value_and_grad(meta_params, replace(episode, weights=None))  # knows of none

    sinusoids, be = mltk.data.Sinusoid(shots=4, queries=3), mltk.backend("numpy")
    maml = mltk.algorithms.MAML(mltk.models.mlp([1, 5, 1]), "mse")
    weighted = replace(sinusoids.sample(3, 0, be), weights=np.asarray([0.0, 0.5, 3.0]))
    params = maml.init(be, 0)
    found = mltk.evaluation.Tempered(Own(maml), 2.0).value_and_grad(params, weighted)[0]
    assert float(found) == pytest.approx(float(maml.value_and_grad(params, weighted)[0]))
