"""How answers scale with computing, and whether a policy knows which tasks are worth it."""

import numpy as np
import pytest
from assertions import agree
from routes import NUMPY
from scipy.stats import page_trend_test

import mltk
from mltk.errors import NotFiniteError, SettingError
from mltk.toolkit import Allocation, Scaling, TestTimeScaler, scaling
from mltk.toolkit.allocation import best_mixture, gradient
from mltk.toolkit.levels import confidences

VECTORS = mltk.algorithms.Prototypical(mltk.models.Sequential([]))
BLOBS = mltk.data.Blobs(ways=4, shots=3, queries=2, features=3, separation=2)
LEVELS = (1, 2, 4, 8, 16)


def noisy(x, rng):
    return x + rng.normal(0, 0.3, x.shape).astype(x.dtype)


# The same tasks at every level.


def test_levels_are_the_evaluations_of_the_scaled_learner():
    scaler = TestTimeScaler(VECTORS, views=noisy, confidence=0.6)
    found = scaling(scaler, {}, BLOBS, episodes=45, levels=(4, 2), seed=3, backend=NUMPY, batch=20)
    assert found.levels == (1, 2, 4)
    for level, values in zip(found.levels, found.values, strict=True):
        learner = TestTimeScaler(VECTORS, views=noisy).at(level)
        expected = mltk.evaluate(learner, {}, BLOBS, episodes=45, seed=3, backend=NUMPY)
        agree(values, expected.values)
    assert (np.diff(found.seconds) > 0).all()
    maml = mltk.algorithms.MAML(mltk.models.mlp([1, 6, 1]), "mse")
    waves, params = mltk.data.Sinusoid(4, 3), maml.init(NUMPY, 0)
    found = scaling(TestTimeScaler(maml, steps=True), params, waves, episodes=20, levels=(3,))
    deeper = mltk.algorithms.MAML(maml.model, "mse", inner_steps=3)
    agree(found.values[1], mltk.evaluate(deeper, params, waves, episodes=20).values)
    assert found.metric == "mse"
    assert not found.known


def test_the_trend_is_the_mean_slope_and_pages_test_that_of_scipy():
    rng = np.random.default_rng(0)
    values = rng.normal(0, 0.1, (5, 60)) + 0.03 * np.arange(5)[:, None]
    found = Scaling("accuracy", LEVELS, values, np.ones(5))
    slopes = [np.polyfit(range(5), task, 1)[0] for task in values.T]
    trend = found.trend()
    agree(trend.estimate, np.mean(slopes))
    expected = mltk.evaluation.Evaluation("accuracy", np.asarray(slopes)).interval()
    agree([trend.low, trend.high], [expected.low, expected.high])
    agree(found.page(), page_trend_test(values.T, method="asymptotic").pvalue)
    assert found.page() < 1e-6
    falling = Scaling("mse", LEVELS, -values, np.ones(5))
    agree(falling.page(), found.page())
    assert Scaling("accuracy", LEVELS, values[::-1], np.ones(5)).page() > 0.99
    assert "5 levels" in str(found)
    assert found.gain(16).difference.estimate == pytest.approx((values[4] - values[0]).mean())
    with pytest.raises(SettingError, match="level is 3; expected one of 1, 2, 4, 8, 16"):
        found.at(3)


def test_there_is_no_trend_where_views_tell_nothing():
    """Vectors of no invariance: noise in what is seen takes away, and the trend says so."""
    found = scaling(
        TestTimeScaler(VECTORS, views=lambda x, rng: x + rng.normal(0, 3, x.shape)),
        {},
        BLOBS,
        episodes=200,
        levels=LEVELS,
        backend=NUMPY,
    )
    assert found.trend().low <= 0
    assert found.page() > 0.05
    assert found.gain(2).difference.estimate < 0


def test_predictions_that_diverge_are_named():
    maml = mltk.algorithms.MAML(mltk.models.mlp([1, 6, 1]), "mse", inner_lr=50)
    params = maml.init(NUMPY, 0)
    with np.errstate(all="ignore"), pytest.raises(NotFiniteError, match="64 passes"):
        scaling(TestTimeScaler(maml, steps=True), params, mltk.data.Sinusoid(4, 3), episodes=20, levels=(64,))


def test_confidences_are_those_of_the_probabilities():
    p = np.asarray([[[0.7, 0.2, 0.1], [0.5, 0.5, 0.0]]])
    with np.errstate(divide="ignore"):
        found = confidences(np.log(np.maximum(p, 1e-300)))
    agree(found["confidence"], [0.6])
    agree(found["least confidence"], [0.5])
    agree(found["margin"], [0.25])
    agree(found["entropy"], [(-np.sum(p[0, 0] * np.log(p[0, 0])) + np.log(2)) / 2])


# A policy.


def family(share=0.5, tasks=600, seed=0, told=1.0):
    """Easy tasks gain nothing from computing, hard ones much; ``told`` says how well they are told apart."""
    rng = np.random.default_rng(seed)
    hard = rng.random(tasks) < share
    gain = np.asarray([0, 0.1, 0.2, 0.28, 0.3])[:, None]
    values = np.where(hard, 0.5 + gain, 0.95) + rng.normal(0, 0.05, (5, tasks))
    confidence = told * np.where(hard, -1.0, 1.0) + rng.normal(0, 0.5, tasks)
    return hard, Scaling("accuracy", LEVELS, values, np.ones(5), {"confidence": confidence})


def test_the_sampled_gradient_is_that_of_the_expected_cost():
    rng = np.random.default_rng(0)
    weights, features, costs = rng.normal(size=(3, 4)), rng.normal(size=(5, 3)), rng.normal(size=(5, 4))
    logits = features @ weights
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    exact = features.T @ (p * (costs - (p * costs).sum(axis=1, keepdims=True))) / 5
    drawn = np.stack([gradient(weights, features, costs, 4, rng) for _ in range(3000)])
    error = drawn.std(axis=0) / np.sqrt(3000)
    assert np.abs(drawn.mean(axis=0) - exact).max() < 4 * error.max()
    assert error.max() < np.abs(exact).max() / 10


def test_a_policy_that_knows_which_tasks_are_hard_gains_what_can_be_gained():
    hard, found = family()
    policy = Allocation(price=0.005).fit(found)
    assert not policy.abstains
    # Uniformly, a pass more on easy tasks is a pass less on hard ones.
    assert policy.gain.low > 0.015
    chosen = policy.choose(found.known)
    assert chosen[hard].mean() > 1.5 * chosen[~hard].mean()
    assert abs(policy.probabilities(found.known).sum(axis=1) - 1).max() < 1e-12
    # At the price of a fixed mixture.
    assert policy.uniform @ np.asarray(LEVELS) == pytest.approx(policy.spent)
    expected = policy.probabilities(found.known) @ np.asarray(LEVELS)
    assert chosen.mean() == pytest.approx(expected.mean(), rel=0.1)
    assert "decides" in str(policy)
    assert policy.to_dict()["abstains"] is False


@pytest.mark.parametrize("settings", [{"told": 0.0}, {"share": 0.0}, {"share": 1.0}])
def test_a_policy_abstains_where_nothing_can_be_known_or_gained(settings):
    families = [family(seed=seed, tasks=200, **settings)[1] for seed in range(4)]
    policies = [Allocation(price=0.005, steps=60).fit(each) for each in families]
    assert sum(policy.abstains for policy in policies) >= 3
    policy = next(each for each in policies if each.abstains)
    same = policy.probabilities({"confidence": np.asarray([-3.0, 3.0])})
    agree(same, np.tile(policy.uniform, (2, 1)))
    assert "nothing is known to be gained" in str(policy)


def test_computing_that_costs_more_is_spent_less():
    spent = [Allocation(price=price, steps=100).fit(family()[1]).spent for price in (0, 0.01, 1)]
    assert spent[0] > 8 > spent[1] > 2 > spent[2]


def test_levels_are_chosen_as_often_as_they_are_probable():
    policy = Allocation(price=0.005).fit(family()[1])
    known = {"confidence": np.random.default_rng(0).uniform(0, 1, 20_000)}
    chances = policy.probabilities(known).mean(axis=0)
    chosen = policy.choose(known, seed=1)
    found = [(chosen == level).mean() for level in LEVELS]
    assert np.abs(found - chances).max() < 0.015


def test_a_task_gets_the_same_level_alone_and_in_company():
    policy = Allocation(price=0.005).fit(family()[1])
    known = np.random.default_rng(0).uniform(0, 1, 60)
    together = policy.choose({"confidence": known})
    alone = [policy.choose({"confidence": known[task : task + 1]})[0] for task in range(60)]
    assert together.tolist() == alone
    assert len(set(alone)) > 1


def test_a_mixture_is_the_best_that_costs_as_much():
    levels, losses = np.asarray([1, 2, 4, 8]), np.asarray([1.0, 0.9, 0.3, 0.25])
    agree(best_mixture(losses, levels, 2), [2 / 3, 0, 1 / 3, 0])  # better than two passes for all
    agree(best_mixture(losses, levels, 8), [0, 0, 0, 1])
    agree(best_mixture(losses, levels, 1), [1, 0, 0, 0])
    rng = np.random.default_rng(0)
    for spent in (1.5, 3, 6):
        best = best_mixture(losses, levels, spent)
        assert best @ levels == pytest.approx(spent)
        others = rng.dirichlet(np.ones(4), 2000)
        cheap = others[others @ levels <= spent]
        assert (cheap @ losses >= best @ losses - 1e-12).all()


def test_a_scaler_takes_a_policy_for_its_budget():
    scaler = TestTimeScaler(VECTORS, views=noisy)
    found = scaling(scaler, {}, BLOBS, episodes=60, levels=(1, 4), backend=NUMPY)
    policy = Allocation(price=0.0).fit(found)
    episode = BLOBS.sample(6, 0, NUMPY)
    arrays = episode.support_x, episode.support_y, episode.query_x
    answer = scaler.predict({}, *arrays, compute=policy)
    plain = scaler.predict({}, *arrays, compute=1)
    assert (answer.passes == policy.choose(confidences(plain.outputs))).all()
    with pytest.raises(SettingError, match="compute is"):
        scaler.predict({}, *arrays, compute=lambda outputs: outputs)


def test_policies_name_what_they_lack():
    values = np.zeros((2, 10))
    for lacking in (
        Scaling("accuracy", (1, 2), values, np.ones(2)),
        Scaling("accuracy", (1,), values[:1], np.ones(1)),
    ):
        with pytest.raises(SettingError, match="expected at least 4 tasks of classes at 2 levels"):
            Allocation(price=0.1).fit(lacking)
    policy = Allocation(price=0.1).fit(family(tasks=20)[1])
    with pytest.raises(SettingError, match="known has no 'confidence'"):
        policy.choose({"entropy": np.zeros(2)})
