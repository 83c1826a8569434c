"""Losses of policies: the expected cost of sampled trajectories, and the probability of samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from mltk.checks import Checked, Count, Flag
from mltk.errors import DtypeError, SettingError, ShapeError
from mltk.ops.dice import surrogate
from mltk.ops.distributions import Distribution
from mltk.ops.kernels import kernels_of
from mltk.ops.loss import Loss, scaled
from mltk.ops.operation import Pulled, Tangent, unfit
from mltk.tree import Array, Tree


def check_distribution(name: str, value: Any) -> None:
    """Raise `SettingError` unless the setting is a distribution of actions."""
    if not isinstance(value, Distribution):
        raise SettingError(f"{name} is {value!r}; expected Categorical() or Gaussian(…)")


@dataclass(frozen=True)
class SampledLoss(Checked, Loss):
    """A loss of a policy's outputs ``(..., N, k)`` for sampled actions.

    Targets ``(..., N, a + 2)``, floating: the numbers of the action, its cost and its baseline.

    Attributes:
        distribution: That of the actions.
    """

    distribution: Annotated[Distribution, check_distribution]

    def check_target(self, outputs: Array, target: Array) -> None:
        if target.dtype != outputs.dtype:
            raise DtypeError(
                f"the target of {type(self).__name__} has dtype {target.dtype}; "
                f"expected that of the outputs, {outputs.dtype}"
            )
        if outputs.ndim < 2:
            raise unfit(self, outputs, "k")
        expected = (*outputs.shape[:-1], self.distribution.width(outputs.shape[-1]) + 2)
        if tuple(target.shape) != expected:
            raise ShapeError(
                f"the target of {type(self).__name__} has shape {tuple(target.shape)}; expected {expected}: "
                "actions, costs and baselines side by side"
            )


@dataclass(frozen=True)
class PolicyLoss(SampledLoss):
    r"""The mean cost of sampled trajectories, with the derivatives of their expectation (`mltk.surrogate`).

    The examples are ``N`` trajectories of ``H`` steps, one trajectory after the other. With the
    log-probabilities $\ell_t$ (whose own rules are those of the distribution), costs $c_t$, baselines $b_t$
    and what is still to come, $R_t = \sum_{u \ge t} c_u$, the magic boxes make of each trajectory

    $$\bar\ell_t = \tfrac1N \bar y \, (R_t - b_t), \qquad
      \dot{\bar\ell}_t = \tfrac1N \dot{\bar y} \, (R_t - b_t)
      + \tfrac1N \bar y \Big( \sum_{u \ge t} c_u \sum_{t' \le u} \dot\ell_{t'} - b_t \dot\ell_t \Big), \qquad
      \dot y = \tfrac1N \textstyle\sum_t (R_t - b_t) \, \dot\ell_t.$$

    Without the box the loss is $\tfrac1N \sum_t \ell_t (R_t - b_t)$: the first derivative is the same, and
    the second lacks the large bracket. That is the derivative for given samples, and misses that of their
    probability.

    Attributes:
        horizon: $H$.
        box: Whether there are magic boxes.
    """

    horizon: Count
    box: Flag = True

    def check_target(self, outputs: Array, target: Array) -> None:
        super().check_target(outputs, target)
        if outputs.shape[-2] % self.horizon:
            raise ShapeError(
                f"there are {outputs.shape[-2]} examples; expected whole trajectories of {self.horizon} steps"
            )

    def value(self, outputs: Array, target: Array) -> tuple[Array, tuple[Any, Array, Array, Array]]:
        logs, residuals = self.distribution.log_prob(outputs, target[..., :-2])
        logs, costs, baselines = map(self._trajectories, (logs, target[..., -2], target[..., -1]))
        advantages = costs_to_go(costs) - baselines
        if self.box:
            value = surrogate(logs, costs, baselines)
        else:
            value = kernels_of(logs).xp.sum(logs * advantages, axis=(-2, -1)) / logs.shape[-2]
        return value, (residuals, advantages, costs, baselines)

    def jvp(self, p: Tree, res: tuple[Any, Array, Array, Array], dp: Tree, dx: Array | None) -> Array:
        residuals, advantages, *_ = res
        d_logs = self._trajectories(self.distribution.jvp(residuals, dx))
        return kernels_of(advantages).xp.sum(d_logs * advantages, axis=(-2, -1)) / advantages.shape[-2]

    def vjp(
        self, p: Tree, res: tuple[Any, Array, Array, Array], gy: Array | float, *, wrt_input: bool = True
    ) -> Pulled:
        residuals, advantages, *_ = res
        return {}, self.distribution.vjp(residuals, self._examples(self._mean(gy, advantages)))

    def jvp_of_vjp(
        self,
        p: Tree,
        res: tuple[Any, Array, Array, Array],
        gy: Array | float,
        d: Tangent,
        *,
        wrt_input: bool = True,
    ) -> Pulled:
        residuals, advantages, costs, baselines = res
        tangents = []
        if self.box:
            d_logs = self._trajectories(self.distribution.jvp(residuals, d.x))
            cumulated = kernels_of(d_logs).xp.cumulative_sum(d_logs, axis=-1)
            tangents.append(self._mean(gy, costs_to_go(costs * cumulated) - baselines * d_logs))
        if d.gy is not None:
            tangents.append(self._mean(d.gy, advantages))
        g_logs = self._examples(self._mean(gy, advantages))
        dg_logs = self._examples(sum(tangents)) if tangents else None
        return {}, self.distribution.jvp_of_vjp(residuals, g_logs, d.x, dg_logs)

    def _mean(self, gy: Array | float, per_step: Array) -> Array:
        """A cotangent of the value times numbers of each step, over the number of trajectories."""
        return scaled(gy, 1 / per_step.shape[-2]) * per_step

    def _trajectories(self, x: Array) -> Array:
        """``(..., N H)`` to ``(..., N, H)``."""
        return kernels_of(x).xp.reshape(x, (*x.shape[:-1], x.shape[-1] // self.horizon, self.horizon))

    def _examples(self, x: Array) -> Array:
        """The inverse of `_trajectories`."""
        return kernels_of(x).xp.reshape(x, (*x.shape[:-2], x.shape[-2] * x.shape[-1]))


@dataclass(frozen=True)
class LogLikelihood(SampledLoss):
    r"""The log-probability of all sampled actions of a task together: the gradient is the score.

    With the log-probabilities $\ell$ of the actions, $y = \sum \ell$, $\dot y = \sum \dot\ell$,
    $\bar\ell = \bar y$ and $\dot{\bar\ell} = \dot{\bar y}$. Costs and baselines play no part.
    """

    def value(self, outputs: Array, target: Array) -> tuple[Array, tuple[Any, Array]]:
        logs, residuals = self.distribution.log_prob(outputs, target[..., :-2])
        xp = kernels_of(logs).xp
        return xp.sum(logs, axis=-1), (residuals, xp.ones_like(logs))

    def jvp(self, p: Tree, res: tuple[Any, Array], dp: Tree, dx: Array | None) -> Array:
        d_logs = self.distribution.jvp(res[0], dx)
        return kernels_of(d_logs).xp.sum(d_logs, axis=-1)

    def vjp(self, p: Tree, res: tuple[Any, Array], gy: Array | float, *, wrt_input: bool = True) -> Pulled:
        residuals, ones = res
        return {}, self.distribution.vjp(residuals, _for_each(gy, ones))

    def jvp_of_vjp(
        self, p: Tree, res: tuple[Any, Array], gy: Array | float, d: Tangent, *, wrt_input: bool = True
    ) -> Pulled:
        residuals, ones = res
        dg = None if d.gy is None else _for_each(d.gy, ones)
        return {}, self.distribution.jvp_of_vjp(residuals, _for_each(gy, ones), d.x, dg)


def costs_to_go(costs: Array) -> Array:
    """For each step of trajectories ``(..., H)`` the sum of its cost and of those that follow."""
    xp = kernels_of(costs).xp
    return xp.flip(xp.cumulative_sum(xp.flip(costs, axis=-1), axis=-1), axis=-1)


def _for_each(numbers: Array | float, ones: Array) -> Array:
    """A number, or one of each task, for every example."""
    return numbers * ones if isinstance(numbers, int | float) else numbers[..., None] * ones
