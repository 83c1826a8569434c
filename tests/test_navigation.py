"""Navigation: positions, costs and noise of the trajectories."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mltk
from mltk.data import Navigation
from mltk.errors import SettingError, ShapeError
from mltk.navigation_picture import navigation_figure

NUMPY = mltk.backend("numpy", dtype="float64")


def towards(place, speed):
    """A policy whose mean velocity points from where it is to a place."""
    return lambda x: speed * (place - x)


@given(
    seed=st.integers(0, 1000),
    tasks=st.integers(1, 3),
    trajectories=st.integers(1, 3),
    horizon=st.integers(1, 4),
)
@settings(max_examples=25)
def test_a_trajectory_is_what_its_actions_make_of_it(seed, tasks, trajectories, horizon):
    drawn = Navigation(trajectories, horizon).sample(tasks, seed, NUMPY)
    x, actions, costs = drawn.rollout(towards(np.array([0.4, -0.2]), 0.5), 0)
    assert costs.shape == (tasks, trajectories, horizon)
    x, actions = (part.reshape(tasks, trajectories, horizon, 2) for part in (x, actions))
    for task in range(tasks):
        for number in range(trajectories):
            position = np.zeros(2)
            for step in range(horizon):
                np.testing.assert_allclose(x[task, number, step], position, atol=1e-14)
                position = position + np.clip(actions[task, number, step], -0.1, 0.1)
                cost = np.sum((position - drawn.goals[task]) ** 2)
                assert costs[task, number, step] == pytest.approx(cost, rel=1e-12)


def test_actions_are_normal_around_the_policy():
    drawn = Navigation(2_000, 3, std=0.3).sample(2, 0, NUMPY)
    policy = towards(np.array([1.0, 0.0]), 1.0)
    x, actions, _ = drawn.rollout(policy, 0)
    noise = (actions - policy(x)) / 0.3
    assert abs(noise.mean()) < 0.03
    assert noise.std() == pytest.approx(1, rel=0.03)
    steps = noise.reshape(2, 2_000, 3, 2)
    assert abs(np.corrcoef(steps[..., 0, 0].ravel(), steps[..., 1, 0].ravel())[0, 1]) < 0.06


def test_goals_fill_the_square():
    goals = Navigation(goals=(-2.0, 1.0)).sample(500, 0, NUMPY).goals
    assert goals.min() >= -2
    assert goals.max() <= 1
    np.testing.assert_allclose(goals.mean(axis=0), -0.5, atol=0.2)
    assert abs(np.corrcoef(goals.T)[0, 1]) < 0.2


def test_the_same_trajectories_on_every_backend(backend64):
    model = mltk.models.mlp([2, 5, 2], activation="tanh")
    rollouts = []
    for backend in (NUMPY, backend64):
        params = model.init(backend, 0)
        drawn = Navigation(3, 6).sample(2, 5, backend)
        rollout = drawn.rollout(lambda x, p=params: model.apply(p, x), 2)
        rollouts.append([backend.to_numpy(part) for part in rollout])
    for ours, theirs in zip(*rollouts, strict=True):
        np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-12)


def test_each_task_may_have_its_own_policy():
    drawn = Navigation(4, 5).sample(3, 0, NUMPY)
    own = np.array([[0.1], [0.5], [0.9]])[:, :, None]
    x, _, _ = drawn.rollout(lambda x: own * (1 - x), 0)
    for task in range(3):
        alone = drawn.rollout(lambda x, s=own[task]: s * (1 - x), 0)
        np.testing.assert_allclose(x[task], alone.x[task], atol=1e-14)


def test_a_stage_has_noise_of_its_own_and_repeats_it():
    drawn = Navigation(3, 4).sample(2, 0, NUMPY)
    first, again, other = (drawn.rollout(lambda x: 0 * x, stage).actions for stage in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).all()


def test_the_picture_shows_paths_before_and_after():
    learner = mltk.algorithms.StochasticMAML(mltk.models.mlp([2, 4, 2]), inner_lr=0.01)
    source = Navigation(3, 6)
    meta = learner.init(NUMPY, 0)
    figure = navigation_figure(learner, meta, source, backend=NUMPY, goals=2, seed=4)
    drawn = source.sample(2, 4, NUMPY)
    for task, axes in enumerate(figure.axes):
        lines = [np.column_stack(line.get_data()) for line in axes.get_lines()]
        for params, first in ((meta, 0), (learner.adapt(meta, drawn), 3)):
            x = drawn.rollout(lambda x, p=params: learner.model.apply(p, x), 1).x
            expected = x.reshape(2, 3, 6, 2)[task]
            np.testing.assert_allclose(lines[first : first + 3], expected)
        assert any(np.array_equal(line, drawn.goals[task][None]) for line in lines)
        before, after = (learner.returns(p, drawn)[task] for p in (meta, learner.adapt(meta, drawn)))
        assert axes.get_title() == f"return {before:.1f} → {after:.1f}"


def test_bad_input_is_refused():
    with pytest.raises(SettingError, match="std is 0"):
        Navigation(std=0)
    with pytest.raises(SettingError, match="horizon is 0"):
        Navigation(horizon=0)
    with pytest.raises(SettingError, match="goals is"):
        Navigation(goals=(1, 0))
    with pytest.raises(ShapeError, match=r"outputs have shape \(1, 20, 1\); expected \(1, 20, 2\)"):
        Navigation().sample(1, 0, NUMPY).rollout(lambda x: x[..., :1], 0)
