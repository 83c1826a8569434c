r"""Distributions of actions, given by the outputs of a policy, with hand-derived log-probabilities.

Outputs are ``(..., k)`` and actions ``(..., a)``: one action for each place in the leading axes. Of the
log-probability $\ell(x)$ of a fixed action, as a function of the outputs $x$, each distribution has the value
and three derivatives, with a cotangent $g$ of $\ell$ in the shape ``(...)``:

$$\dot \ell = \langle s, \dot x \rangle, \qquad \bar x = g s, \qquad \dot{\bar x} = \dot g s + g \dot s,$$

where the score $s = \partial \ell / \partial x$ and its tangent $\dot s$ are derived below.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import numpy as np

from mltk.checks import Checked, Positive
from mltk.ops.kernels import kernels_of
from mltk.ops.operation import Residuals
from mltk.tree import Array


class Distribution(ABC):
    """A family of distributions of actions. The residuals are a tuple that starts with the score."""

    @abstractmethod
    def width(self, outputs_width: int) -> int:
        """How many numbers describe an action, for outputs of so many numbers."""

    @abstractmethod
    def log_prob(self, outputs: Array, actions: Array) -> tuple[Array, Residuals]:
        """The log-probability (or log-density) of actions, ``(...)``, and the residuals.

        Args:
            outputs: ``(..., k)``.
            actions: ``(..., a)``, of the dtype of the outputs.
        """

    @abstractmethod
    def score_tangent(self, res: Residuals, dx: Array) -> Array:
        """The tangent of the score along a tangent of the outputs."""

    @abstractmethod
    def noise(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Draw in float64 what `sample` needs for outputs of this shape."""

    @abstractmethod
    def sample(self, outputs: Array, noise: Array) -> Array:
        """Actions ``(..., a)``, of the dtype of the outputs, made of noise from `noise`."""

    def jvp(self, res: Residuals, dx: Array) -> Array:
        """The tangent of the log-probability along ``dx``."""
        return kernels_of(dx).sum(res[0], (-1,), times=dx)

    def vjp(self, res: Residuals, g: Array) -> Array:
        """The cotangent of the outputs that the cotangent ``g`` of the log-probability pulls back to."""
        return g[..., None] * res[0]

    def jvp_of_vjp(self, res: Residuals, g: Array, dx: Array, dg: Array | None) -> Array:
        """The tangent of `vjp` along ``(dx, dg)``; ``dg=None`` stands for zero."""
        dgx = g[..., None] * self.score_tangent(res, dx)
        return dgx if dg is None else dgx + dg[..., None] * res[0]


@dataclass(frozen=True)
class Categorical(Distribution):
    r"""One of $K$ actions, with the probabilities $p = \operatorname{softmax}(x)$ of logits ``(..., K)``.

    An action is its index $a$ in ``0..K-1``, as a floating number, ``(..., 1)``. With the one-hot $e_a$,
    $\ell = x_a - \log \sum_j e^{x_j}$, and since the logarithm has the gradient $p$,

    $$s = e_a - p, \qquad \dot s = -\dot p = -p \odot (\dot x - \langle p, \dot x \rangle).$$

    A logit of $-\infty$ rules an action out. Sampling inverts the distribution function: the action is the
    first whose cumulative probability exceeds a uniform number.
    """

    def width(self, outputs_width: int) -> int:
        return 1

    def log_prob(self, outputs: Array, actions: Array) -> tuple[Array, tuple[Array, Array]]:
        xp = kernels_of(outputs).xp
        shifted, exponentials = self._exponentials(outputs)
        total = xp.sum(exponentials, axis=-1, keepdims=True)
        chosen = actions == xp.arange(outputs.shape[-1], dtype=actions.dtype, device=outputs.device)
        # Not a product: zero times the logit of an action that is ruled out would be NaN.
        of_chosen = xp.sum(xp.where(chosen, shifted, xp.zeros_like(shifted)), axis=-1)
        p = exponentials / total
        return of_chosen - xp.log(total[..., 0]), (xp.astype(chosen, outputs.dtype) - p, p)

    def score_tangent(self, res: tuple[Array, Array], dx: Array) -> Array:
        p = res[1]
        return p * (kernels_of(dx).sum(p, (-1,), times=dx, keepdims=True) - dx)

    def noise(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return rng.random((*shape[:-1], 1))

    def sample(self, outputs: Array, noise: Array) -> Array:
        xp = kernels_of(outputs).xp
        cumulative = xp.cumulative_sum(self._exponentials(outputs)[1], axis=-1)
        # A number just below one may have been rounded to it, and would exceed them all.
        level = xp.clip(noise, max=1 - xp.finfo(outputs.dtype).eps) * cumulative[..., -1:]
        return xp.sum(xp.astype(cumulative <= level, outputs.dtype), axis=-1, keepdims=True)

    def _exponentials(self, outputs: Array) -> tuple[Array, Array]:
        """The logits below the largest, and their exponentials."""
        xp = kernels_of(outputs).xp
        shifted = outputs - xp.max(outputs, axis=-1, keepdims=True)
        return shifted, xp.exp(shifted)


@dataclass(frozen=True)
class Gaussian(Checked, Distribution):
    r"""Actions ``(..., d)`` spread around means ``(..., d)``, independently with one standard deviation.

    With the outputs $x$ as means and $\sigma$ fixed,
    $\ell = -\frac{1}{2 \sigma^2} \lVert a - x \rVert^2 - d \log \sigma - \frac d2 \log 2 \pi$, and so

    $$s = \frac{a - x}{\sigma^2}, \qquad \dot s = -\frac{\dot x}{\sigma^2}.$$

    Attributes:
        std: The standard deviation $\sigma$ of each number.

    Raises:
        SettingError: If the standard deviation is not a positive finite number.
    """

    std: Positive

    def width(self, outputs_width: int) -> int:
        return outputs_width

    def log_prob(self, outputs: Array, actions: Array) -> tuple[Array, tuple[Array]]:
        standardized = (actions - outputs) / self.std
        squares = kernels_of(outputs).sum(standardized, (-1,), times=standardized)
        constant = outputs.shape[-1] * (math.log(self.std) + math.log(2 * math.pi) / 2)
        return -squares / 2 - constant, (standardized / self.std,)

    def score_tangent(self, res: tuple[Array], dx: Array) -> Array:
        return -dx / self.std**2

    def noise(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        return rng.standard_normal(shape)

    def sample(self, outputs: Array, noise: Array) -> Array:
        return outputs + self.std * noise
