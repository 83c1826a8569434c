"""Bandits: what is known in closed form, and what is sampled."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from routes import NUMPY
from scipy.special import stdtrit
from scipy.stats import binom, kstest

import mltk
from mltk.data import Bandits
from mltk.errors import MismatchError, ShapeError
from mltk.ops import Categorical


def everywhere(logits):
    """The policy that has the same logits ``(K,)`` or ``(T, K)`` everywhere."""

    def policy(x):
        rows = logits if logits.ndim == 1 else logits[:, None, :]
        return rows + 0 * x

    return policy


def softmax(logits):
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


@given(seed=st.integers(0, 10_000), tasks=st.integers(1, 3), arms=st.integers(2, 5), pulls=st.integers(1, 3))
@settings(max_examples=30)
def test_closed_forms_are_the_derivatives_of_the_expected_cost(seed, tasks, arms, pulls):
    bandits = Bandits(arms, pulls=pulls).sample(tasks, seed, NUMPY)
    logits = np.random.default_rng(seed).normal(0, 2, (tasks, arms))

    def cost(row, task):
        means = torch.tensor(bandits.means[task])
        return -pulls * (torch.softmax(row, -1) * means).sum()

    def after_step(row, task):
        (grad,) = torch.autograd.grad(cost(row, task), row, create_graph=True)
        return cost(row - 0.7 * grad, task)

    for task in range(tasks):
        row = torch.tensor(logits[task], requires_grad=True)
        assert bandits.expected_cost(logits)[task] == pytest.approx(cost(row, task).item(), abs=1e-12)
        for found, expected in (
            (bandits.cost_gradient(logits), torch.autograd.grad(cost(row, task), row)[0]),
            (
                bandits.cost_hessian(logits),
                torch.autograd.functional.hessian(lambda r, t=task: cost(r, t), row),
            ),
            (bandits.meta_gradient(logits, 0.7), torch.autograd.grad(after_step(row, task), row)[0]),
        ):
            np.testing.assert_allclose(found[task], expected.detach().numpy(), rtol=1e-9, atol=1e-12)
        stepped = torch.tensor(logits[task] - 0.7 * bandits.cost_gradient(logits)[task], requires_grad=True)
        (first,) = torch.autograd.grad(cost(stepped, task), stepped)
        found = bandits.meta_gradient(logits, 0.7, first_order=True)[task]
        np.testing.assert_allclose(found, first.numpy(), rtol=1e-9, atol=1e-12)


def test_logits_may_be_shared_by_the_tasks():
    bandits = Bandits(3).sample(4, 0, NUMPY)
    logits = np.array([0.3, -1.0, 0.5])
    each = np.broadcast_to(logits, (4, 3))
    for function in (bandits.expected_cost, bandits.cost_gradient, bandits.cost_hessian):
        np.testing.assert_array_equal(function(logits), function(each))
    np.testing.assert_array_equal(bandits.meta_gradient(logits, 0.3), bandits.meta_gradient(each, 0.3))


@pytest.mark.parametrize("engine", ["analytic", "autograd"])
def test_the_same_trajectories_on_every_backend(engine):
    torch_backend = mltk.backend("torch", dtype="float64", engine=engine)
    logits = np.random.default_rng(0).standard_normal((2, 3))
    expected = Bandits(3, 5, pulls=2, noise=0.1).sample(2, 7, NUMPY).rollout(everywhere(logits), 1)
    drawn = Bandits(3, 5, pulls=2, noise=0.1).sample(2, 7, torch_backend)
    found = drawn.rollout(everywhere(torch_backend.asarray(logits)), 1)
    for ours, theirs in zip(expected, found, strict=True):
        np.testing.assert_array_equal(ours, torch_backend.to_numpy(theirs))


def test_a_stage_has_noise_of_its_own_and_repeats_it():
    bandits = Bandits(5, 20).sample(3, 0, NUMPY)
    first, again, other = (bandits.rollout(everywhere(np.zeros(5)), stage).actions for stage in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_bad_input_is_refused():
    with pytest.raises(ShapeError, match=r"outputs have shape \(2, 20, 4\); expected \(2, 20, 5\)"):
        Bandits(5).sample(2, 0, NUMPY).rollout(everywhere(np.zeros(4)), 0)


ONCE_IN = 1e-6  # how often a bound on samples may fail by chance, all its comparisons together


def assert_counts_fit(counts, trials, chances):
    """Counts of independent trials lie between binomial quantiles."""
    level = ONCE_IN / (2 * np.size(chances))
    assert (counts >= binom.ppf(level, trials, chances)).all()
    assert (counts <= binom.isf(level, trials, chances)).all()


def assert_mean_fits(samples, expected):
    """The mean of samples ``(n, ...)`` is as expected, by Student's quantile."""
    quantile = stdtrit(len(samples) - 1, 1 - ONCE_IN / (2 * np.size(expected)))
    bound = quantile * samples.std(axis=0, ddof=1) / math.sqrt(len(samples))
    assert (np.abs(samples.mean(axis=0) - expected) < bound).all()


problems = given(
    seed=st.integers(0, 10_000),
    tasks=st.integers(1, 3),
    arms=st.integers(2, 4),
    pulls=st.integers(1, 3),
    own=st.booleans(),
)


def problem(seed, tasks, arms, pulls, own):
    """Bandits, and logits of each task's own or for all tasks."""
    rng = np.random.default_rng(seed)
    bandits = Bandits(arms, 3, pulls=pulls, means=(-2.0, 3.0)).sample(tasks, rng, NUMPY)
    return bandits, 2 * rng.standard_normal((tasks, arms) if own else arms)


class TestClosedForms:
    @problems
    @settings(max_examples=30)
    def test_the_expected_cost_is_that_of_every_trajectory(self, seed, tasks, arms, pulls, own):
        bandits, logits = problem(seed, tasks, arms, pulls, own)
        chances = np.broadcast_to(softmax(logits), (tasks, arms))
        expected = np.zeros(tasks)
        for pulled in itertools.product(range(arms), repeat=pulls):
            expected -= chances[:, pulled].prod(axis=1) * bandits.means[:, pulled].sum(axis=1)
        np.testing.assert_allclose(bandits.expected_cost(logits), expected, rtol=1e-12, atol=1e-13)

    def test_first_and_second_order_differ_and_agree_without_a_step(self):
        bandits, logits = problem(3, 3, 4, 2, True)
        both = [bandits.meta_gradient(logits, 0.5, first_order=first_order) for first_order in (False, True)]
        assert np.abs(both[0] - both[1]).max() > 0.1
        for first_order in (False, True):
            still = bandits.meta_gradient(logits, 0.0, first_order=first_order)
            np.testing.assert_array_equal(still, bandits.cost_gradient(logits))

    def test_every_backend_has_the_same(self, backend64):
        expected, logits = problem(4, 3, 4, 2, True)
        found = replace(expected, means=backend64.asarray(expected.means), backend=backend64)
        for name, options in {
            "expected_cost": {},
            "cost_gradient": {},
            "cost_hessian": {},
            "meta_gradient": {"inner_lr": 0.3},
        }.items():
            value = getattr(found, name)(backend64.asarray(logits), **options)
            np.testing.assert_allclose(
                backend64.to_numpy(value), getattr(expected, name)(logits, **options), rtol=1e-12, atol=1e-14
            )

    def test_logits_far_apart_neither_overflow_nor_turn_nan(self):
        bandits, _ = problem(5, 2, 3, 1, False)
        logits = np.array([-1e4, 1e4, 0.0])
        np.testing.assert_allclose(bandits.expected_cost(logits), -bandits.means[:, 1])
        assert not bandits.cost_gradient(logits).any()
        assert not bandits.cost_hessian(logits).any()


class TestRollouts:
    @given(
        tasks=st.integers(1, 3),
        arms=st.integers(2, 4),
        trajectories=st.integers(1, 4),
        pulls=st.integers(1, 4),
        seed=st.integers(0, 10_000),
    )
    @settings(max_examples=20)
    def test_a_pull_costs_what_its_arm_gives(self, backend64, tasks, arms, trajectories, pulls, seed):
        bandits = Bandits(arms, trajectories, pulls=pulls).sample(tasks, seed, backend64)
        logits = backend64.asarray(np.random.default_rng(seed).standard_normal((tasks, arms)))
        x, actions, costs = map(backend64.to_numpy, bandits.rollout(everywhere(logits), 0))
        assert (bandits.n_tasks, bandits.trajectories, bandits.horizon) == (tasks, trajectories, pulls)
        assert bandits.distribution == Categorical()
        assert bandits.validate() is bandits
        assert x.shape == (tasks, trajectories * pulls, 1)
        assert (x == 1).all()
        assert actions.shape == (tasks, trajectories * pulls, 1)
        assert costs.shape == (tasks, trajectories, pulls)
        indices = actions[..., 0].astype(int)
        assert (indices == actions[..., 0]).all()
        assert ((indices >= 0) & (indices < arms)).all()
        rewards = np.take_along_axis(backend64.to_numpy(bandits.means), indices, axis=1)
        np.testing.assert_array_equal(costs.reshape(tasks, -1), -rewards)

    def test_arms_are_pulled_as_often_as_each_tasks_own_softmax_says(self):
        logits = np.array([[0.0, 1.0, -1.0, 0.5], [3.0, -2.0, 0.0, 0.0]])
        bandits = Bandits(4, 4_000, pulls=2).sample(2, 0, NUMPY)
        _, actions, _ = bandits.rollout(everywhere(logits), 0)
        pulled = actions.reshape(2, 4_000, 2, 1) == np.arange(4)
        chances = np.broadcast_to(softmax(logits)[:, None, :], (2, 2, 4))
        assert_counts_fit(pulled.sum(axis=1), 4_000, chances)

    def test_pulls_tasks_and_stages_are_independent(self):
        """Two draws that shared their noise would pull the same arm always."""
        bandits = Bandits(2, 4_000, pulls=2).sample(2, 1, NUMPY)
        logits = np.array([0.4, 0.0])
        stages = [
            bandits.rollout(everywhere(logits), stage).actions.reshape(2, 4_000, 2) for stage in range(3)
        ]
        series = np.concatenate([np.moveaxis(actions, 1, -1).reshape(4, 4_000) for actions in stages])
        pairs = itertools.combinations(series.astype(int), 2)
        counts = np.stack([np.bincount(2 * one + other, minlength=4) for one, other in pairs])
        chances = np.outer(softmax(logits), softmax(logits)).ravel()
        assert_counts_fit(counts, 4_000, np.broadcast_to(chances, counts.shape))

    def test_noise_of_rewards_is_normal_and_new_for_every_pull(self):
        bandits = Bandits(3, 500, pulls=2, noise=0.3).sample(2, 0, NUMPY)
        noises = []
        for stage in range(2):
            _, actions, costs = bandits.rollout(everywhere(np.zeros(3)), stage)
            rewards = np.take_along_axis(bandits.means, actions[..., 0].astype(int), axis=1)
            noises.append((costs.reshape(2, -1) + rewards) / 0.3)
        noises = np.concatenate(noises, axis=None)
        assert np.unique(noises).size == noises.size
        assert kstest(noises, "norm").pvalue > ONCE_IN

    def test_samples_have_the_expected_cost_and_gradient(self):
        logits = np.array([[0.5, -1.0, 0.2], [-0.3, 0.0, 1.0]])
        bandits = Bandits(3, 4_000, pulls=2, noise=0.2).sample(2, 2, NUMPY)
        x, actions, costs = bandits.rollout(everywhere(logits), 0)
        assert_mean_fits(costs.sum(axis=-1).T, bandits.expected_cost(logits))
        _, residuals = bandits.distribution.log_prob(everywhere(logits)(x), actions)
        scores = bandits.distribution.vjp(residuals, costs.reshape(2, -1)).reshape(2, 4_000, 2, 3)
        assert_mean_fits(np.moveaxis(scores.sum(axis=2), 1, 0), bandits.cost_gradient(logits))

    def test_another_seed_gives_other_means_and_other_trajectories(self):
        rng = np.random.default_rng(0)
        one, other = (Bandits(4, 50).sample(2, rng, NUMPY) for _ in range(2))
        assert not np.isin(one.means, other.means).any()
        pulls = [tasks.rollout(everywhere(np.zeros(4)), 0).actions for tasks in (one, other)]
        assert (pulls[0] != pulls[1]).any()

    def test_single_precision(self, backend32):
        bandits = Bandits(3, 4, noise=0.1).sample(2, 0, backend32)
        rollout = bandits.rollout(everywhere(backend32.asarray(np.zeros(3))), 0)
        assert all(backend32.owns(part) for part in (bandits.means, *rollout))
        assert backend32.owns(bandits.meta_gradient(backend32.asarray(np.zeros(3)), 0.5))


def test_means_are_uniform():
    means = Bandits(5, means=(-3.0, 2.0)).sample(400, 0, NUMPY).means
    assert means.shape == (400, 5)
    assert kstest(means.ravel(), "uniform", (-3.0, 5.0)).pvalue > ONCE_IN
    assert np.unique(means).size == means.size


@pytest.mark.parametrize("shape", [(), (3,), (4, 1), (2, 4), (1, 1, 4)])
def test_logits_of_another_shape_are_refused(shape):
    """Some would broadcast, to expectations of no policy."""
    bandits = Bandits(4).sample(1, 0, NUMPY)
    for function in (bandits.expected_cost, bandits.cost_gradient, bandits.cost_hessian):
        with pytest.raises(ShapeError, match=r"logits has shape .*; expected \(4,\) or \(1, 4\)"):
            function(np.zeros(shape))
    with pytest.raises(ShapeError, match="logits has shape"):
        bandits.meta_gradient(np.zeros(shape), 0.1)


def test_logits_of_another_library_are_refused():
    with pytest.raises(MismatchError, match="logits holds an array of torch"):
        Bandits(4).sample(1, 0, NUMPY).expected_cost(torch.zeros(4, dtype=torch.float64))


@pytest.mark.parametrize("noise", [0.0, 0.2, 1.0])
def test_what_arms_may_be_expected_to_pay_is_a_sum_over_the_prior(noise):
    family = Bandits(4, 3, pulls=2, means=(-1.0, 2.0), noise=noise)
    tasks = family.sample(30, 0, NUMPY)
    rollout = tasks.rollout(everywhere(np.asarray([2.0, 0.0, 1.0, -3.0])), 0)
    grid = np.linspace(-1.0, 2.0, 20_001)
    expected = np.empty((30, 4))
    for task, arm in np.ndindex(30, 4):
        rewards = -rollout.costs[task].ravel()[rollout.actions[task, :, 0] == arm]
        if not noise:
            expected[task, arm] = tasks.means[task, arm] if rewards.size else 0.5
            continue
        log_density = -np.sum((rewards[:, None] - grid) ** 2, axis=0) / 2 / noise**2
        weight = np.exp(log_density - log_density.max())
        weight[[0, -1]] /= 2
        expected[task, arm] = np.sum(weight * grid) / weight.sum()
    np.testing.assert_allclose(family.bayes_means(rollout), expected, atol=1e-6)


def test_the_posterior_of_bandits_is_calibrated():
    family = Bandits(3, 2, noise=0.5)
    tasks = family.sample(4000, 1, NUMPY)
    found = family.bayes_means(tasks.rollout(everywhere(np.zeros(3)), 0))
    assert_mean_fits((found - tasks.means) * found, 0.0)
    best = found.argmax(axis=1)[:, None]
    assert_mean_fits(np.take_along_axis(found - tasks.means, best, axis=1), 0.0)


def test_expected_payoffs_are_the_same_on_every_backend(backend64):
    family = Bandits(3, 4, noise=0.3)
    found, expected = (
        family.bayes_means(family.sample(2, 0, backend).rollout(everywhere(backend.asarray(np.zeros(3))), 0))
        for backend in (backend64, NUMPY)
    )
    np.testing.assert_allclose(backend64.to_numpy(found), expected, rtol=1e-12, atol=1e-15)
