"""Navigation in the plane: a point robot that does not know its goal (Finn et al. 2017)."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

import numpy as np

from mltk.backend import check_backend
from mltk.checks import Bounds, Checked, Count, Positive
from mltk.contracts import Backend
from mltk.data.families.rollouts import Policy, Rollout, drawn_seed, stage_generator
from mltk.data.source import generator
from mltk.errors import ShapeError
from mltk.ops import Gaussian
from mltk.tree import Array


@dataclass(frozen=True)
class Navigation(Checked):
    r"""A point starts at the origin and shall get to a goal that it cannot see.

    Finn, Abbeel & Levine (2017), section 5.3: goals are uniform in a square, the observation is the position,
    the action is the velocity for one step, of which each coordinate is clipped, and the cost of a step is
    the squared distance to the goal after it. A Gaussian policy, whose means are its two outputs, can only
    find out where the goal is from the costs of trajectories.

    Attributes:
        trajectories: Trajectories a rollout.
        horizon: Steps a trajectory; 100 in the paper.
        goals: The range of both coordinates of a goal.
        std: Standard deviation of the actions.
        max_step: The largest change of a coordinate in one step.

    Examples:
        >>> import mltk
        >>> tasks = mltk.data.Navigation(horizon=10).sample(4, rng=0, backend=mltk.backend("numpy"))
        >>> tasks.goals.shape, tasks.horizon
        ((4, 2), 10)
    """

    trajectories: Count = 20
    horizon: Count = 20
    _: KW_ONLY
    goals: Bounds = (-0.5, 0.5)
    std: Positive = 0.1
    max_step: Positive = 0.1

    def sample(self, n_tasks: int, rng: int | np.random.Generator, backend: Backend) -> NavigationTasks:
        """Draw goals; see `TaskSource.sample`."""
        rng = generator(rng, n_tasks)
        check_backend(backend)
        goals = backend.asarray(rng.uniform(*self.goals, (n_tasks, 2)))
        return NavigationTasks(
            goals, self.trajectories, self.horizon, self.std, self.max_step, drawn_seed(rng), backend
        )


@dataclass(frozen=True, eq=False)
class NavigationTasks:
    """T goals, as `Navigation.sample` draws them; see `mltk.data.families.rollouts.Environments`.

    Attributes:
        goals: ``(T, 2)``.
        trajectories: Trajectories a rollout.
        horizon: Steps a trajectory.
        std: Standard deviation of the actions.
        max_step: The largest change of a coordinate in one step.
        seed: That of the rollouts' random numbers.
        backend: Where everything is computed.
    """

    goals: Array
    trajectories: int
    horizon: int
    std: float
    max_step: float
    seed: int
    backend: Backend

    @property
    def n_tasks(self) -> int:
        """T."""
        return int(self.goals.shape[0])

    @property
    def distribution(self) -> Gaussian:
        """That of the velocities, given a policy's outputs."""
        return Gaussian(self.std)

    def validate(self) -> NavigationTasks:
        """Nothing can be wrong with goals that were drawn."""
        return self

    def rollout(self, policy: Policy, stage: int) -> Rollout:
        """See `Environments.rollout`; the policy gives mean velocities ``(T, n, 2)``.

        Raises:
            ShapeError: If the policy does not have two outputs.
        """
        xp = self.backend.xp
        shape = (self.n_tasks, self.trajectories, 2)
        rng = stage_generator(self.seed, stage)
        noise = self.backend.asarray(self.distribution.noise(rng, (self.horizon, *shape)))
        position = xp.zeros_like(noise[0])
        positions, actions, costs = [], [], []
        for step in range(self.horizon):
            means = policy(position)
            if tuple(means.shape) != shape:
                raise ShapeError(f"the policy's outputs have shape {tuple(means.shape)}; expected {shape}")
            action = self.distribution.sample(means, noise[step])
            positions.append(position)
            actions.append(action)
            position = position + xp.clip(action, -self.max_step, self.max_step)
            away = position - self.goals[:, None, :]
            costs.append(xp.sum(away * away, axis=-1))
        flat = (self.n_tasks, self.trajectories * self.horizon, 2)
        x, taken = (xp.reshape(xp.stack(parts, axis=2), flat) for parts in (positions, actions))
        return Rollout(x, taken, xp.stack(costs, axis=-1))
