"""Navigation: positions, costs and noise of the trajectories."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from routes import NUMPY
from scipy.stats import kstest, pearsonr

import mltk
from mltk.data import Navigation
from mltk.errors import ShapeError
from mltk.ops import Gaussian
from mltk.pictures.navigation import navigation_figure


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


def test_a_stage_has_noise_of_its_own_and_repeats_it():
    drawn = Navigation(3, 4).sample(2, 0, NUMPY)
    first, again, other = (drawn.rollout(lambda x: 0 * x, stage).actions for stage in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).all()


def test_the_picture_shows_paths_before_and_after():
    learner = mltk.algorithms.StochasticMAML(mltk.models.mlp([2, 4, 2]), inner_lr=0.01)
    source = Navigation(3, 6, std=0.03)
    # From zeros, or every action would be clipped, and every path the same.
    meta = mltk.tree.map(np.zeros_like, learner.init(NUMPY, 0))
    figure = navigation_figure(learner, meta, source, backend=NUMPY, goals=2, seed=4)
    drawn = source.sample(2, 4, NUMPY)
    for task, axes in enumerate(figure.axes):
        lines = [np.column_stack(line.get_data()) for line in axes.get_lines()]
        for params, first in ((meta, 0), (learner.adapt(meta, drawn), 3)):
            x = drawn.rollout(lambda x, p=params: learner.model.apply(p, x), 1).x
            expected = x.reshape(2, 3, 6, 2)[task]
            np.testing.assert_allclose(lines[first : first + 3], expected)
        assert len({line.tobytes() for line in lines[:6]}) == 6
        assert any(np.array_equal(line, drawn.goals[task][None]) for line in lines)
        before, after = (learner.returns(p, drawn)[task] for p in (meta, learner.adapt(meta, drawn)))
        assert axes.get_title() == f"Unseen goal {task + 1}\nreturn {before:.1f} → {after:.1f}"


def test_bad_input_is_refused():
    with pytest.raises(ShapeError, match=r"outputs have shape \(1, 20, 1\); expected \(1, 20, 2\)"):
        Navigation().sample(1, 0, NUMPY).rollout(lambda x: x[..., :1], 0)


ONCE_IN = 1e-6  # how often a bound on samples may fail by chance


def stay(x):
    return 0 * x


def linear(weights):
    """The policy whose mean velocity is linear in the position, ``(2, 2)`` or for each task ``(T, 2, 2)``."""
    return lambda x: x @ weights + 0.03


def replay(tasks, rollout, backend):
    """Positions and costs that the actions lead to, one task, trajectory and step at a time."""
    goals, actions = backend.to_numpy(tasks.goals), backend.to_numpy(rollout.actions)
    positions, costs = np.zeros_like(actions), np.zeros(tuple(rollout.costs.shape))
    for task, goal in enumerate(goals):
        for trajectory in range(tasks.trajectories):
            x, y = 0.0, 0.0
            for step in range(tasks.horizon):
                row = trajectory * tasks.horizon + step
                positions[task, row] = x, y
                x += min(max(actions[task, row, 0], -tasks.max_step), tasks.max_step)
                y += min(max(actions[task, row, 1], -tasks.max_step), tasks.max_step)
                costs[task, trajectory, step] = (x - goal[0]) ** 2 + (y - goal[1]) ** 2
    return positions, costs


@given(
    tasks=st.integers(1, 3),
    trajectories=st.integers(1, 4),
    horizon=st.integers(1, 5),
    std=st.floats(1e-3, 1.0),
    max_step=st.floats(1e-2, 1.0),
    seed=st.integers(0, 10_000),
)
@settings(max_examples=25)
def test_actions_are_clipped_and_added_and_cost_the_squared_distance(
    backend64, tasks, trajectories, horizon, std, max_step, seed
):
    source = Navigation(trajectories, horizon, std=std, max_step=max_step)
    drawn = source.sample(tasks, seed, backend64)
    assert (drawn.n_tasks, drawn.trajectories, drawn.horizon) == (tasks, trajectories, horizon)
    assert drawn.distribution == Gaussian(std)
    assert drawn.validate() is drawn
    weights = backend64.asarray(np.random.default_rng(seed).standard_normal((tasks, 2, 2)))
    rollout = drawn.rollout(linear(weights), 0)
    assert tuple(rollout.x.shape) == tuple(rollout.actions.shape) == (tasks, trajectories * horizon, 2)
    assert tuple(rollout.costs.shape) == (tasks, trajectories, horizon)
    positions, costs = replay(drawn, rollout, backend64)
    np.testing.assert_allclose(backend64.to_numpy(rollout.x), positions, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(backend64.to_numpy(rollout.costs), costs, rtol=1e-12, atol=1e-14)


def noise_of(drawn, stage, policy=stay):
    """The standardised distance of actions from a policy's means ``(T, N, H, 2)``."""
    x, actions, _ = drawn.rollout(policy, stage)
    noise = (actions - policy(x)) / drawn.std
    return noise.reshape(drawn.n_tasks, drawn.trajectories, drawn.horizon, 2)


def test_actions_are_spread_around_the_means_of_each_tasks_own_policy():
    """Also where they are clipped: what is recorded is the action, whose density the policy gives."""
    drawn = Navigation(100, 5, std=0.2, max_step=0.05).sample(3, 0, NUMPY)
    weights = np.random.default_rng(0).standard_normal((3, 2, 2))
    noise = noise_of(drawn, 0, linear(weights))
    assert kstest(noise.ravel(), "norm").pvalue > ONCE_IN
    # The noise is that of any other policy, which sees other positions.
    np.testing.assert_allclose(noise, noise_of(drawn, 0), atol=1e-12)


def test_tasks_trajectories_steps_coordinates_and_stages_are_independent():
    drawn = Navigation(500, 4).sample(4, 0, NUMPY)
    noise = np.stack([noise_of(drawn, stage) for stage in range(4)])
    assert np.unique(noise).size == noise.size
    for axis in range(noise.ndim):
        one, other = (noise.take(index, axis).ravel() for index in (0, 1))
        assert pearsonr(one, other).pvalue > ONCE_IN / noise.ndim


def test_each_coordinate_of_a_step_is_clipped():
    drawn = Navigation(20, 8, std=1e-6, max_step=0.25).sample(2, 0, NUMPY)
    x, actions, _ = drawn.rollout(lambda x: 0 * x + np.array([3.0, -0.125]), 0)
    np.testing.assert_allclose(actions, np.broadcast_to([3.0, -0.125], actions.shape), atol=1e-4)
    steps = np.arange(8)[:, None] * np.array([0.25, -0.125])
    np.testing.assert_allclose(x.reshape(2, 20, 8, 2), np.broadcast_to(steps, (2, 20, 8, 2)), atol=1e-4)


def test_who_stays_pays_the_distance_and_who_knows_the_goal_gets_there():
    drawn = Navigation(3, 12, std=1e-9).sample(5, 0, NUMPY)
    distance = (drawn.goals**2).sum(axis=-1)[:, None, None]
    np.testing.assert_allclose(drawn.rollout(stay, 0).costs, np.broadcast_to(distance, (5, 3, 12)), rtol=1e-5)
    costs = drawn.rollout(lambda x: drawn.goals[:, None, :] - x, 0).costs
    assert (np.diff(costs, axis=-1) < 1e-12).all()
    assert (costs[..., -1] < 1e-12).all()  # 0.5 a coordinate at most, in steps of 0.1


def test_the_policy_is_asked_once_a_step_for_all_tasks_and_trajectories():
    asked = []

    def policy(x):
        asked.append(x)
        return stay(x)

    drawn = Navigation(4, 6).sample(3, 0, NUMPY)
    x = drawn.rollout(policy, 0).x.reshape(3, 4, 6, 2)
    assert not asked[0].any()
    np.testing.assert_array_equal(np.stack(asked, axis=2), x)


def test_another_seed_gives_other_goals_and_other_noise():
    rng = np.random.default_rng(0)
    one, other = (Navigation(5, 4).sample(2, rng, NUMPY) for _ in range(2))
    assert not np.isin(one.goals, other.goals).any()
    assert not np.isin(noise_of(one, 0), noise_of(other, 0)).any()


def test_single_precision(backend32):
    drawn = Navigation(3, 4).sample(2, 0, backend32)
    assert all(backend32.owns(part) for part in (drawn.goals, *drawn.rollout(stay, 0)))


def test_goals_are_uniform_in_a_square():
    goals = Navigation(goals=(-1.0, 3.0)).sample(2_000, 0, NUMPY).goals
    assert goals.shape == (2_000, 2)
    for coordinate in goals.T:
        assert kstest(coordinate, "uniform", (-1.0, 4.0)).pvalue > ONCE_IN / 3
    assert pearsonr(*goals.T).pvalue > ONCE_IN / 3
    default = Navigation().sample(2_000, 0, NUMPY).goals
    assert kstest(default.ravel(), "uniform", (-0.5, 1.0)).pvalue > ONCE_IN
