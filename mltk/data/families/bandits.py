"""Bandits: the smallest tasks in which a learner acts, whose every expectation is known."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

import numpy as np

from mltk.backend import check_backend, check_same, common_backend
from mltk.checks import Bounds, Checked, Count, NonNegative, Several
from mltk.contracts import Backend
from mltk.data.families.rollouts import Policy, Rollout, drawn_seed, stage_generator
from mltk.data.source import generator
from mltk.errors import ShapeError
from mltk.ops import Categorical
from mltk.tree import Array


@dataclass(frozen=True)
class Bandits(Checked):
    r"""K-armed bandits, which differ in the mean reward of their arms.

    A trajectory is some pulls of a policy's choice; there is nothing to see, so the observation is the
    number 1. The cost of a pull is minus its reward, the mean of the arm and Gaussian noise.

    Attributes:
        arms: K.
        trajectories: Trajectories a rollout.
        pulls: Pulls a trajectory.
        means: The range of the means, which are uniform.
        noise: Standard deviation of the reward of an arm.

    Examples:
        >>> import mltk
        >>> tasks = mltk.data.Bandits(arms=3, pulls=2).sample(4, rng=0, backend=mltk.backend("numpy"))
        >>> tasks.means.shape, tasks.horizon
        ((4, 3), 2)
    """

    arms: Several = 5
    trajectories: Count = 20
    _: KW_ONLY
    pulls: Count = 1
    means: Bounds = (-1.0, 1.0)
    noise: NonNegative = 0.0

    def sample(self, n_tasks: int, rng: int | np.random.Generator, backend: Backend) -> BanditTasks:
        """Draw bandits; see `TaskSource.sample`."""
        rng = generator(rng, n_tasks)
        check_backend(backend)
        means = backend.asarray(rng.uniform(*self.means, (n_tasks, self.arms)))
        return BanditTasks(means, self.trajectories, self.pulls, self.noise, drawn_seed(rng), backend)

    def bayes_means(self, rollout: Rollout) -> Array:
        """What each arm may be expected to pay, given the pulls of a rollout, ``(T, K)``.

        After them no policy has a larger expected return than that which always pulls the arm with the
        largest. It is computed on the host in float64, by quadrature of a normal density over the range.
        """
        backend = common_backend(actions=(rollout.actions,), costs=(rollout.costs,))
        actions, costs = (backend.to_numpy(each) for each in (rollout.actions, rollout.costs))
        pulled = (actions == np.arange(self.arms)).astype(np.float64)
        counts = pulled.sum(axis=1)[..., None]
        sums = -np.sum(pulled * costs.reshape(len(costs), -1, 1), axis=1)[..., None]
        seen, scale = sums / np.maximum(counts, 1), max(self.noise, 1e-9) / np.sqrt(np.maximum(counts, 1e-99))
        mode = np.clip(seen, *self.means)
        low, high = (np.clip(mode + side * scale, *self.means) for side in (-9, 9))
        nodes, weights = np.polynomial.legendre.leggauss(64)
        x = low + (high - low) * (nodes + 1) / 2
        density = weights * np.exp(-(x - mode) * (x + mode - 2 * seen) / 2 / scale**2)
        return backend.asarray(np.sum(density * x, axis=-1) / np.sum(density, axis=-1))


@dataclass(frozen=True, eq=False)
class BanditTasks:
    r"""T bandits, as `Bandits.sample` draws them; see `mltk.data.families.rollouts.Environments`.

    For the logits $z$ of a softmax policy $\pi$ all expectations are known. With the mean
    $m = \langle \pi, \mu \rangle$ of the means $\mu$, the advantages $v = \pi \odot (\mu - m)$ and $H$ pulls,
    the expected cost of a trajectory is $C = -H m$, and

    $$\nabla C = -H v, \qquad \nabla^2 C = -H \left(\operatorname{diag}(v) - v \pi^\top - \pi v^\top\right).$$

    What takes logits raises `ShapeError` unless they are ``(K,)`` or ``(T, K)``, and `MismatchError` if they
    are not of the backend.

    Attributes:
        means: $\mu$ ``(T, K)``.
        trajectories: Trajectories a rollout.
        horizon: Pulls a trajectory, $H$.
        noise: Standard deviation of the reward of an arm.
        seed: That of the rollouts' random numbers.
        backend: Where everything is computed.
    """

    means: Array
    trajectories: int
    horizon: int
    noise: float
    seed: int
    backend: Backend

    @property
    def n_tasks(self) -> int:
        """T."""
        return int(self.means.shape[0])

    @property
    def distribution(self) -> Categorical:
        """That of the arms, given a policy's logits."""
        return Categorical()

    def validate(self) -> BanditTasks:
        """Nothing can be wrong with bandits that were drawn."""
        return self

    def rollout(self, policy: Policy, stage: int) -> Rollout:
        """See `mltk.data.families.rollouts.Environments.rollout`; the policy gives logits ``(T, n, K)``.

        Raises:
            ShapeError: If the policy does not have an output for each arm.
        """
        xp, arms = self.backend.xp, self.means.shape[1]
        steps = self.trajectories * self.horizon
        rng = stage_generator(self.seed, stage)
        x = self.backend.asarray(np.ones((self.n_tasks, steps, 1)))
        logits = policy(x)
        if tuple(logits.shape) != (self.n_tasks, steps, arms):
            raise ShapeError(
                f"the policy's outputs have shape {tuple(logits.shape)}; "
                f"expected {(self.n_tasks, steps, arms)}, for {arms} arms"
            )
        noise = self.backend.asarray(self.distribution.noise(rng, (self.n_tasks, steps, arms)))
        actions = self.distribution.sample(logits, noise)
        indices = xp.arange(arms, dtype=actions.dtype, device=actions.device)
        pulled = xp.astype(actions == indices, self.means.dtype)
        costs = -xp.sum(pulled * self.means[:, None, :], axis=-1)
        if self.noise:
            costs = costs - self.backend.asarray(self.noise * rng.standard_normal((self.n_tasks, steps)))
        return Rollout(x, actions, xp.reshape(costs, (self.n_tasks, self.trajectories, self.horizon)))

    def expected_cost(self, logits: Array) -> Array:
        """The expected cost of a trajectory ``(T,)`` for logits ``(K,)`` or ``(T, K)``."""
        return -self.horizon * self.backend.xp.sum(self._chances(logits) * self.means, axis=-1)

    def cost_gradient(self, logits: Array) -> Array:
        """Its gradient ``(T, K)``."""
        return -self.horizon * self._advantages(self._chances(logits))

    def cost_hessian(self, logits: Array) -> Array:
        """Its Hessian ``(T, K, K)``."""
        xp = self.backend.xp
        chances = self._chances(logits)
        v = self._advantages(chances)
        outer = v[..., :, None] * chances[..., None, :]
        eye = xp.eye(v.shape[-1], dtype=v.dtype, device=v.device)
        return -self.horizon * (v[..., :, None] * eye - outer - outer.mT)

    def meta_gradient(self, logits: Array, inner_lr: float, *, first_order: bool = False) -> Array:
        """The gradient ``(T, K)`` of the expected cost after one step along the expected gradient.

        Args:
            logits: Before the step, ``(K,)`` or ``(T, K)``.
            inner_lr: The step size.
            first_order: Leave out how the step itself depends on the logits.
        """
        after = self.cost_gradient(logits - inner_lr * self.cost_gradient(logits))
        if first_order:
            return after
        return after - inner_lr * (self.cost_hessian(logits) @ after[..., None])[..., 0]

    def _chances(self, logits: Array) -> Array:
        """The probability of each arm in each task."""
        xp, expected = self.backend.xp, tuple(self.means.shape)
        check_same(self.backend, logits=(logits,))
        # Any other shape might still broadcast, to the expectations of no policy.
        if tuple(logits.shape) not in (expected, expected[1:]):
            raise ShapeError(f"logits has shape {tuple(logits.shape)}; expected {expected[1:]} or {expected}")
        logits = logits + xp.zeros_like(self.means)
        exponentials = xp.exp(logits - xp.max(logits, axis=-1, keepdims=True))
        return exponentials / xp.sum(exponentials, axis=-1, keepdims=True)

    def _advantages(self, chances: Array) -> Array:
        mean = self.backend.xp.sum(chances * self.means, axis=-1, keepdims=True)
        return chances * (self.means - mean)
