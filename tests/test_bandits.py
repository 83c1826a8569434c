"""Bandits: what is known in closed form, and what is sampled."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import mltk
from mltk.data import Bandits
from mltk.errors import SettingError, ShapeError

NUMPY = mltk.backend("numpy", dtype="float64")


def constant(logits):
    """A policy that does not look."""
    return lambda x: x * 0 + x.dtype.type(1) * logits


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
    np.testing.assert_array_equal(
        bandits.cost_hessian(logits), bandits.cost_hessian(np.broadcast_to(logits, (4, 3)))
    )


def test_arms_are_pulled_as_often_as_the_policy_says():
    """Each count of 40,000 pulls of an arm misses this bound once in a million times (Hoeffding)."""
    bandits = Bandits(4, 10_000, pulls=4).sample(1, 0, NUMPY)
    logits = np.array([0.0, 1.0, -1.0, 0.5])
    rollout = bandits.rollout(constant(logits), 0)
    chances = np.exp(logits) / np.exp(logits).sum()
    bound = math.sqrt(math.log(2 * 4 / 1e-6) / (2 * 40_000))
    for arm, chance in enumerate(chances):
        assert abs(np.mean(rollout.actions == arm) - chance) < bound
    np.testing.assert_array_equal(
        rollout.costs.ravel(), -bandits.means[0, rollout.actions.ravel().astype(int)]
    )


def test_noise_is_added_to_the_reward():
    bandits = Bandits(3, 5_000, noise=0.5).sample(2, 0, NUMPY)
    rollout = bandits.rollout(constant(np.zeros(3)), 0)
    means = np.take_along_axis(bandits.means, rollout.actions[..., 0].astype(int), axis=1)
    noise = rollout.costs[..., 0] + means
    assert noise.std() == pytest.approx(0.5, rel=0.05)
    assert abs(noise.mean()) < 0.03


@pytest.mark.parametrize("engine", ["analytic", "autograd"])
def test_the_same_trajectories_on_every_backend(engine):
    torch_backend = mltk.backend("torch", dtype="float64", engine=engine)
    logits = np.random.default_rng(0).standard_normal((2, 1, 3))
    expected = Bandits(3, 5, pulls=2, noise=0.1).sample(2, 7, NUMPY).rollout(constant(logits), 1)
    drawn = Bandits(3, 5, pulls=2, noise=0.1).sample(2, 7, torch_backend)
    found = drawn.rollout(lambda x: x * 0 + torch_backend.asarray(logits), 1)
    for ours, theirs in zip(expected, found, strict=True):
        np.testing.assert_array_equal(ours, torch_backend.to_numpy(theirs))


def test_a_stage_has_noise_of_its_own_and_repeats_it():
    bandits = Bandits(5, 20).sample(3, 0, NUMPY)
    first, again, other = (bandits.rollout(constant(np.zeros(5)), stage).actions for stage in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_bad_input_is_refused():
    with pytest.raises(SettingError, match="arms is 1"):
        Bandits(1)
    with pytest.raises(SettingError, match="pulls is 0"):
        Bandits(pulls=0)
    with pytest.raises(SettingError, match="means is"):
        Bandits(means=(1.0, 0.0))
    with pytest.raises(SettingError, match="n_tasks is 0"):
        Bandits().sample(0, 0, NUMPY)
    with pytest.raises(ShapeError, match=r"outputs have shape \(2, 20, 4\); expected \(2, 20, 5\)"):
        Bandits(5).sample(2, 0, NUMPY).rollout(constant(np.zeros(4)), 0)
