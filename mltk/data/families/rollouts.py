"""Tasks in which a learner acts: what a batch of them can do, and the trajectories that come of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

import numpy as np

from mltk.contracts import Backend
from mltk.ops import Distribution
from mltk.tree import Array

Policy = Callable[[Array], Array]
"""From observations ``(T, n, f)`` to the outputs ``(T, n, k)`` that a distribution of actions needs."""


class Rollout(NamedTuple):
    """N trajectories of H steps in each of T tasks.

    Attributes:
        x: Observations ``(T, N * H, f)``, one trajectory after the other.
        actions: The actions taken there ``(T, N * H, a)``.
        costs: The cost of each ``(T, N, H)``.
    """

    x: Array
    actions: Array
    costs: Array


class Environments(Protocol):
    """T tasks in which trajectories can be sampled.

    Attributes:
        backend: Where everything is computed.
        n_tasks: T.
        trajectories: N, how many trajectories a rollout has in each task.
        horizon: H, how many steps a trajectory has.
        distribution: That of the actions, given a policy's outputs.
    """

    @property
    def backend(self) -> Backend: ...  # noqa: D102
    @property
    def n_tasks(self) -> int: ...  # noqa: D102
    @property
    def trajectories(self) -> int: ...  # noqa: D102
    @property
    def horizon(self) -> int: ...  # noqa: D102
    @property
    def distribution(self) -> Distribution: ...  # noqa: D102

    def rollout(self, policy: Policy, stage: int) -> Rollout:
        """Sample trajectories in all tasks.

        Args:
            policy: What is asked for the outputs at each observation.
            stage: Which random numbers to use: the same for the same stage, on every backend, and
                independent ones for another.
        """

    def validate(self) -> Environments:
        """Check the values, and return the tasks themselves; `mltk.train` asks for it if told to."""


class EnvironmentSource(Protocol):
    """Where tasks come from in which a learner acts."""

    def sample(self, n_tasks: int, rng: int | np.random.Generator, backend: Backend) -> Environments:
        """Draw ``n_tasks`` tasks at once, as `TaskSource.sample` does episodes."""


def drawn_seed(rng: np.random.Generator) -> int:
    """A seed for the random numbers of the rollouts in tasks that are drawn with ``rng``."""
    return int(rng.integers(2**63))


def stage_generator(seed: int, stage: int) -> np.random.Generator:
    """The generator of the random numbers of one stage."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(stage,)))
