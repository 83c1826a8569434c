"""Sampled meta-gradients against their exact expectation: every possible sample, weighed by its probability.

No statistics: an expectation is a sum over all sequences of actions, so that an unbiased estimate agrees with
the truth to rounding error.
"""

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from assertions import same_gradient
from routes import NUMPY

import mltk
from mltk import tree
from mltk.algorithms import StochasticMAML
from mltk.data import Bandits, Navigation
from mltk.data.families.rollouts import Rollout
from mltk.ops import Categorical, Linear

LR = 1.5
MEANS = np.array([1.0, -0.5])
LOGITS = np.array([0.3, -0.2])
POLICY = mltk.models.Sequential([Linear(1, 2, bias=False)])


@dataclass(frozen=True, eq=False)
class GivenArms:
    """Bandits whose pulls are given for each stage, with the probability that they would have had."""

    arms: np.ndarray  # (T, stages, N)
    chance: np.ndarray  # (T,), filled by the rollouts
    backend: object
    horizon: int = 1
    distribution = Categorical()

    @property
    def trajectories(self):
        return self.arms.shape[2]

    @property
    def n_tasks(self):
        return self.arms.shape[0]

    def rollout(self, policy, stage):
        arms = self.arms[:, stage]
        x = self.backend.asarray(np.ones((*arms.shape, 1)))
        logits = self.backend.to_numpy(policy(x))
        logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        self.chance[:] *= np.exp(np.take_along_axis(logs, arms[..., None], -1).sum((1, 2)))
        actions, costs = (
            self.backend.asarray(part[..., None]) for part in (arms.astype(float), -MEANS[arms])
        )
        return Rollout(x, actions, costs)


def all_arms(stages, pulls):
    """Every sequence of arms for each stage: ``(cases, stages, pulls)``."""
    return np.array(list(itertools.product(range(2), repeat=stages * pulls))).reshape(-1, stages, pulls)


def expectation(learner, pulls, backend=NUMPY, *, tasks=1):
    """The mean of `value_and_grad` over all samples of some tasks together."""
    meta = {"0": {"weight": backend.asarray(LOGITS[:, None])}}
    value, gradient, total = 0.0, np.zeros(2), 0.0
    for chosen in itertools.product(all_arms(learner.inner_steps + 1, pulls), repeat=tasks):
        drawn = GivenArms(np.array(chosen), np.ones(tasks), backend)
        one, grads = learner.value_and_grad(meta, drawn)
        chance = drawn.chance.prod()
        total += chance
        value += chance * float(one)
        gradient += chance * backend.to_numpy(grads["0"]["weight"])[:, 0]
    assert total == pytest.approx(1, abs=1e-12)
    return value, gradient


def truth(steps, pulls, baseline):
    """The expected cost after the steps that all samples make, and its gradient, by Torch."""
    theta = torch.tensor(LOGITS, requires_grad=True)
    means, expected = torch.tensor(MEANS), 0.0
    for case in torch.tensor(all_arms(steps, pulls)):
        logits, chance = theta, 1.0
        for arms in case:
            logs = torch.log_softmax(logits, -1)[arms]
            costs = -means[arms]
            others = (costs.sum() - costs) / (pulls - 1) if baseline else 0
            (grad,) = torch.autograd.grad((logs * (costs - others)).mean(), logits, create_graph=True)
            chance = chance * logs.sum().exp()
            logits = logits - LR * grad
        expected = expected - chance * (torch.softmax(logits, -1) * means).sum()
    return expected.item(), torch.autograd.grad(expected, theta)[0].numpy()


@pytest.mark.parametrize("baseline", [False, True])
@pytest.mark.parametrize("steps", [1, 2])
def test_the_sampled_step_is_unbiased(backend64, steps, baseline):
    learner = StochasticMAML(POLICY, inner_lr=LR, inner_steps=steps, sampled_step=True, baseline=baseline)
    value, gradient = expectation(learner, 2, backend64)
    expected, exact = truth(steps, 2, baseline)
    assert value == pytest.approx(expected, abs=1e-12)
    np.testing.assert_allclose(gradient, exact, rtol=1e-10, atol=1e-12)


def test_the_baseline_of_the_score_is_unbiased():
    """Two tasks: the credit of each is taken against the other."""
    learner = StochasticMAML(POLICY, inner_lr=LR, sampled_step=True)
    value, gradient = expectation(learner, 2, tasks=2)
    expected, exact = truth(1, 2, baseline=True)
    assert value == pytest.approx(expected, abs=1e-12)
    np.testing.assert_allclose(gradient, exact, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("first_order", [False, True])
@pytest.mark.parametrize("baseline", [False, True])
def test_the_bias_of_the_expected_step_falls_with_the_number_of_trajectories(first_order, baseline):
    learner = StochasticMAML(POLICY, inner_lr=LR, baseline=baseline, first_order=first_order)
    bandit = Bandits(2).sample(1, 0, NUMPY)
    bandit.means[:] = MEANS
    exact = bandit.meta_gradient(LOGITS, LR, first_order=first_order)[0]
    biases = [np.linalg.norm(expectation(learner, pulls)[1] - exact) for pulls in (2, 5)]
    assert 1e-6 < biases[1] < 0.6 * biases[0]  # in the limit of many trajectories it is 0.4 of it


@pytest.mark.parametrize("engine", ["analytic", "autograd"])
def test_parameters_that_require_a_gradient_change_nothing(engine):
    """Actions are data, also where the caller's own parameters are part of a graph."""
    backend = mltk.backend("torch", dtype="float64", engine=engine)
    learner = StochasticMAML(mltk.models.mlp([2, 4, 2], activation="tanh"), inner_lr=0.01)
    tasks = Navigation(3, 4, max_step=1.0).sample(2, 0, backend)  # so large that nothing is clipped
    meta = learner.init(backend, 0)
    expected = learner.value_and_grad(meta, tasks)
    assert max(leaf.abs().max() for leaf in tree.leaves(expected[1])) > 0.1
    watched = tree.map(lambda leaf: leaf.clone().requires_grad_(), meta)
    value, grads = learner.value_and_grad(watched, tasks)
    same_gradient((value, tree.map(lambda leaf: leaf.detach(), grads)), expected, 1e-12)
