"""MAML on sampled losses: against closed forms where the truth is computable, and by every route."""

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from assertions import meta_gradient, routes_agree, same_gradient
from hypothesis import given, settings
from hypothesis import strategies as st
from routes import NUMPY
from scipy.special import stdtrit

import mltk
from mltk import tree
from mltk.algorithms import StochasticMAML
from mltk.algorithms.stochastic_maml import mean_of_others
from mltk.cli.policies import policy_recipe
from mltk.cli.recipes import Wishes
from mltk.data import Bandits, Navigation
from mltk.data.families.rollouts import Rollout
from mltk.errors import SettingError, TreeError
from mltk.models import Sequential
from mltk.ops import Categorical, Linear
from mltk.ops.policy_loss import costs_to_go

ARMS = 3


def softmax_policy(arms=ARMS):
    return mltk.models.Sequential([Linear(1, arms, bias=False)])


def logits_tree(backend, logits):
    return {"0": {"weight": backend.asarray(np.asarray(logits)[:, None])}}


@dataclass(frozen=True)
class EveryArm:
    """Bandits whose samples are the expectation: each arm once, its cost times its probability."""

    means: np.ndarray
    backend: object = NUMPY
    horizon: int = 1

    @property
    def trajectories(self):
        return self.means.shape[1]

    @property
    def n_tasks(self):
        return self.means.shape[0]

    distribution = Categorical()

    def rollout(self, policy, stage):
        tasks, arms = self.means.shape
        x = self.backend.asarray(np.ones((tasks, arms, 1)))
        logits = self.backend.to_numpy(policy(x))
        chance = np.exp(logits - logits.max(axis=-1, keepdims=True))
        chance /= chance.sum(axis=-1, keepdims=True)
        costs = -arms * chance[:, 0] * self.means
        actions = np.broadcast_to(np.arange(arms, dtype=float)[:, None], (tasks, arms, 1))
        return Rollout(x, self.backend.asarray(actions), self.backend.asarray(costs[..., None]))


def expected_cost(logits, means):
    """By Torch: minus the mean of the arm that a softmax policy pulls."""
    return -(torch.softmax(logits, -1) * means).sum()


def exact_meta_gradient(logits, means, inner_lr, steps, first_order):
    """Of the expected cost after steps along the expected gradient, averaged over tasks, by autograd."""
    start = torch.tensor(logits, requires_grad=True)
    total = 0.0
    for task in torch.tensor(means):
        adapted = start
        for _ in range(steps):
            cost = expected_cost(adapted, task)
            (grad,) = torch.autograd.grad(cost, adapted, create_graph=not first_order, retain_graph=True)
            adapted = adapted - inner_lr * grad
        total = total + expected_cost(adapted, task) / len(means)
    return total.item(), torch.autograd.grad(total, start)[0].numpy()


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("steps", [0, 1, 3])
@given(seed=st.integers(0, 10_000), tasks=st.integers(1, 3))
@settings(max_examples=10)
def test_the_expectation_of_samples_gives_the_exact_meta_gradient(backend64, steps, first_order, seed, tasks):
    """With samples that are the expectation the box makes the Hessian, and so everything, exact."""
    rng = np.random.default_rng(seed)
    logits, means = rng.standard_normal(ARMS), rng.standard_normal((tasks, ARMS))
    learner = StochasticMAML(
        softmax_policy(), inner_lr=0.7, inner_steps=steps, first_order=first_order, baseline=False
    )
    value, grads = learner.value_and_grad(logits_tree(backend64, logits), EveryArm(means, backend64))
    expected, gradient = exact_meta_gradient(logits, means, 0.7, steps, first_order)
    assert float(value) == pytest.approx(expected, rel=1e-12, abs=1e-12)
    np.testing.assert_allclose(
        backend64.to_numpy(grads["0"]["weight"])[:, 0], gradient, rtol=1e-9, atol=1e-12
    )


def test_the_bandits_know_the_exact_meta_gradient():
    rng = np.random.default_rng(0)
    logits, bandits = rng.standard_normal(ARMS), Bandits(ARMS).sample(4, 0, NUMPY)
    for first_order in (False, True):
        known = bandits.meta_gradient(NUMPY.asarray(logits), 0.7, first_order=first_order)
        _, expected = exact_meta_gradient(logits, np.asarray(bandits.means), 0.7, 1, first_order)
        np.testing.assert_allclose(np.mean(known, axis=0), expected, rtol=1e-10)


def sampled_meta_gradient(logits, means, inner_lr, pulls):
    """Of the expected cost after a step along the gradient of all possible samples, by enumeration."""
    start = torch.tensor(logits, requires_grad=True)
    means = torch.tensor(means)
    total = 0.0
    for arms in torch.cartesian_prod(*[torch.arange(len(logits))] * pulls).reshape(-1, pulls):
        logs = torch.log_softmax(start, -1)[arms]
        costs = -means[arms]
        others = (costs.sum() - costs) / (pulls - 1)
        (grad,) = torch.autograd.grad((logs * (costs - others)).mean(), start, create_graph=True)
        total = total + logs.sum().exp() * expected_cost(start - inner_lr * grad, means)
    return total.item(), torch.autograd.grad(total, start)[0].numpy()


def batches(learner, meta, tasks, count, per_batch):
    """The estimate of each of many batches."""
    found = []
    for seed in range(count):
        _, grads = learner.value_and_grad(meta, tasks.sample(per_batch, seed, NUMPY))
        found.append(grads["0"]["weight"][:, 0])
    return np.stack(found)


def bound(estimates):
    """By how much a mean errs at most, but for one time in a million (Student, all coordinates together)."""
    count, coordinates = estimates.shape
    quantile = stdtrit(count - 1, 1 - 1e-6 / (2 * coordinates))
    return quantile * estimates.std(axis=0, ddof=1) / math.sqrt(count)


class TestUnbiased:
    """Two pulls, a large inner step: far from the limit of many samples."""

    logits = np.array([0.3, -0.2])
    means = np.array([1.0, -0.5])
    lr = 1.5

    def sample(self, n_tasks, rng, backend):
        """Tasks that differ in their noise alone."""
        drawn = Bandits(2, 2).sample(n_tasks, rng, backend)
        return replace(drawn, means=np.broadcast_to(self.means, (n_tasks, 2)).copy())

    def test_a_sampled_step_with_its_score_is_unbiased(self):
        _, truth = sampled_meta_gradient(self.logits, self.means, self.lr, 2)
        policy, meta = softmax_policy(2), logits_tree(NUMPY, self.logits)
        learner = StochasticMAML(policy, inner_lr=self.lr, sampled_step=True)
        found = batches(learner, meta, self, 300, 200)
        assert (np.abs(found.mean(axis=0) - truth) < bound(found)).all()
        # With the box in place of the score the mean is elsewhere.
        found = batches(StochasticMAML(policy, inner_lr=self.lr), meta, self, 300, 200)
        assert (np.abs(found.mean(axis=0) - truth) > 2 * bound(found)).any()


SOURCES = {
    "bandits": (Bandits(ARMS, 4, pulls=3), softmax_policy()),
    "navigation": (Navigation(3, 5), mltk.models.mlp([2, 6, 2], activation="tanh")),
}


@pytest.mark.parametrize("sampled_step", [False, True])
@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("steps", [0, 1, 2])
@pytest.mark.parametrize("name", SOURCES)
def test_all_routes_agree(name, steps, first_order, sampled_step):
    source, model = SOURCES[name]
    learner = StochasticMAML(
        model, inner_lr=0.2, inner_steps=steps, first_order=first_order, sampled_step=sampled_step
    )
    routes_agree(learner, lambda backend: source.sample(4, 0, backend))


@pytest.mark.parametrize("sampled_step", [False, True])
def test_checkpoints_sample_the_same_again(backend64, sampled_step):
    source, model = SOURCES["navigation"]
    results = [
        meta_gradient(
            StochasticMAML(model, inner_lr=0.2, inner_steps=4, checkpoint=kept, sampled_step=sampled_step),
            backend64,
            source.sample(4, 0, backend64),
        )
        for kept in (False, True)
    ]
    same_gradient(*results, tolerance=1e-12)


def test_costs_to_go_and_the_mean_of_others():
    costs = np.array([[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]])
    np.testing.assert_array_equal(costs_to_go(costs), [[7.0, 6.0, 4.0], [56.0, 48.0, 32.0]])
    np.testing.assert_array_equal(mean_of_others(np.array([1.0, 3.0, 8.0])), [5.5, 4.5, 2.0])
    np.testing.assert_array_equal(mean_of_others(np.array([[5.0, 7.0]]), axis=0), [[0.0, 0.0]])


def test_adaptation_and_returns_use_different_noise():
    """A policy is not judged by the trajectories that it has adapted to."""
    tasks = Bandits(ARMS, 5).sample(6, 0, NUMPY)
    learner = StochasticMAML(softmax_policy(), inner_lr=0.0)
    meta = learner.init(NUMPY, 0)
    for name, leaf in tree.flatten(learner.adapt(meta, tasks)).items():
        np.testing.assert_array_equal(leaf, np.broadcast_to(tree.flatten(meta)[name], leaf.shape))
    inner, query = (tasks.rollout(lambda x: learner.model.apply(meta, x), stage) for stage in (0, 1))
    assert (inner.actions != query.actions).any()
    np.testing.assert_array_equal(learner.returns(meta, tasks), -query.costs.sum(axis=(1, 2)) / 5)
    value, _ = learner.value_and_grad(meta, tasks)
    assert float(value) == pytest.approx(-np.mean(learner.returns(meta, tasks)), rel=1e-12)


@pytest.mark.parametrize("form", ["sampled_step", "first_order"])
def test_baselines_make_a_constant_reward_worth_nothing(form):
    """Of each pull, in each step and in the weight of the score: gradients do not change with it at all."""
    learner = StochasticMAML(softmax_policy(), inner_lr=0.5, inner_steps=2, **{form: True})
    drawn = Bandits(ARMS, 4, pulls=3).sample(3, 0, NUMPY)
    richer = replace(drawn, means=drawn.means + 10)
    meta = logits_tree(NUMPY, [0.3, 0.0, -0.4])
    (poor, grads), (rich, same) = (learner.value_and_grad(meta, tasks) for tasks in (drawn, richer))
    assert float(rich) == pytest.approx(float(poor) - 30, rel=1e-12)
    np.testing.assert_allclose(same["0"]["weight"], grads["0"]["weight"], rtol=1e-9, atol=1e-11)


def test_every_step_samples_anew():
    stages = []

    @dataclass(frozen=True)
    class Recorded(EveryArm):
        def rollout(self, policy, stage):
            stages.append(stage)
            return super().rollout(policy, stage)

    tasks = Recorded(np.array([[1.0, 0.0, -1.0]]))
    learner = StochasticMAML(softmax_policy(), inner_steps=3)
    learner.value_and_grad(learner.init(NUMPY, 0), tasks)
    assert stages == [0, 1, 2, 3]


def test_returns_of_fewer_tasks_are_the_first_of_more():
    learner, source = StochasticMAML(softmax_policy()), Bandits(ARMS, 3)
    meta = learner.init(NUMPY, 0)
    few, many = (mltk.evaluation.returns(learner, meta, source, episodes=count, seed=2) for count in (25, 50))
    for ours, theirs in zip(few, many, strict=True):
        np.testing.assert_array_equal(ours.values, theirs.values[:25])
    np.testing.assert_array_equal(few.gain.values, few.after.values - few.before.values)


def before_and_after_training(source, learner, *, seed, rate):
    backend = mltk.backend("numpy")
    start = learner.init(backend, seed)
    optimizer = mltk.optim.Adam(rate)
    run = mltk.train(
        learner, source, backend=backend, steps=200, meta_batch=20, optimizer=optimizer, seed=seed
    )
    return [
        mltk.evaluation.returns(learner, params, source, episodes=100, seed=1)
        for params in (start, run.meta_params)
    ]


# The estimates of a sampled step vary more: it needs smaller steps.
@pytest.mark.parametrize(("sampled_step", "rate"), [(False, 3e-3), (True, 1e-3)])
def test_one_step_helps_to_navigate_after_training_and_not_before(sampled_step, rate):
    recipe = policy_recipe("stochastic-maml", "navigation", Wishes())
    learner = replace(recipe.learner, sampled_step=sampled_step)
    seed = 3  # with outputs of full size its robot ran off for good
    untrained, trained = before_and_after_training(recipe.tasks, learner, seed=seed, rate=rate)
    assert untrained.gain.mean < untrained.gain.interval().half_width
    assert trained.gain.mean > 3 * trained.gain.interval().half_width
    assert trained.after.mean > -2.5  # staying at the start costs 20 times the mean square of a goal, 3.3


def test_a_robot_that_cannot_but_run_at_full_speed_learns_nothing():
    """Why a policy's outputs should start small: where every action is clipped, none makes a difference."""
    policy = Sequential([Linear(2, 2)])
    meta = {"0": {"weight": np.zeros((2, 2)), "bias": np.array([3.0, 3.0])}}
    drawn = Navigation().sample(5, 0, NUMPY)
    learner = StochasticMAML(policy, inner_lr=0.01)
    before, after = (learner.returns(params, drawn) for params in (meta, learner.adapt(meta, drawn)))
    np.testing.assert_array_equal(before, after)
    _, grads = learner.value_and_grad(meta, drawn)
    np.testing.assert_allclose(grads["0"]["bias"], 0, atol=1e-8)  # rounding, of scores in the hundreds


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_bandits_are_learned(seed):
    learner = StochasticMAML(softmax_policy(5), inner_lr=10.0)
    untrained, trained = before_and_after_training(Bandits(), learner, seed=seed, rate=3e-2)
    assert abs(untrained.before.mean) < 2 * untrained.before.interval().half_width
    assert trained.after.mean > untrained.after.mean
    assert trained.gain.mean > 5 * trained.gain.interval().half_width


def test_bad_input_is_refused():
    learner = StochasticMAML(softmax_policy())
    meta = learner.init(NUMPY, 0)
    with pytest.raises(SettingError, match="tasks is"):
        learner.value_and_grad(meta, Bandits(ARMS))
    with pytest.raises(TreeError, match=r"meta_params: '0.weight' has shape \(3, 1\); expected \(4, 1\)"):
        StochasticMAML(softmax_policy(4)).adapt(meta, Bandits(ARMS).sample(1, 0, NUMPY))
    with pytest.raises(SettingError, match=r"StochasticMAML, which learns policies.*evaluation\.returns"):
        mltk.evaluate(learner, meta, Bandits(ARMS), episodes=1)
    maml = mltk.algorithms.MAML(softmax_policy(), "mse")
    with pytest.raises(SettingError, match=r"algorithm is MAML.*expected an object with returns"):
        mltk.evaluation.returns(maml, meta, Bandits(ARMS), episodes=1)
