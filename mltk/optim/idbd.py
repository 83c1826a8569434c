"""Learned step sizes for linear prediction, one for each input."""

from __future__ import annotations

import math
from dataclasses import dataclass

from mltk.checks import Checked, NonNegative, Positive
from mltk.errors import ShapeError
from mltk.ops.kernels import kernels_of
from mltk.tree import Array, Tree


@dataclass(frozen=True)
class IDBD(Checked):
    r"""Incremental delta-bar-delta (Sutton 1992, figure 2): online meta-learning of step sizes.

    The least-mean-squares rule for a prediction $w^\top x$ with an error $\delta = y - w^\top x$ gets a step
    size $\alpha_i = e^{\beta_i}$ for every input, whose logarithm descends along the gradient of the squared
    error:

    $$\beta_i \leftarrow \beta_i + \theta \, \delta x_i h_i, \qquad
      w_i \leftarrow w_i + \alpha_i \delta x_i, \qquad
      h_i \leftarrow h_i \max(0, 1 - \alpha_i x_i^2) + \alpha_i \delta x_i.$$

    The trace $h_i$ stands for $\partial w_i / \partial \beta_i$, with which
    $-\tfrac12 \, \partial \delta^2 / \partial \beta_i = \delta x_i h_i$. Differentiating the second rule with
    $\beta_i$ held fixed gives the third,

    $$\frac{\partial w_i}{\partial \beta_i} \leftarrow \frac{\partial w_i}{\partial \beta_i}
      + \alpha_i \delta x_i + \alpha_i x_i \frac{\partial \delta}{\partial \beta_i}, \qquad
      \frac{\partial \delta}{\partial \beta_i}
      = -\sum_j x_j \frac{\partial w_j}{\partial \beta_i} \approx -x_i h_i,$$

    where the sum over other weights $j \ne i$ is left out: this is exact for one input, or if only one at a
    time is not zero. The maximum keeps the trace from growing where a step would overshoot.

    Leading axes are independent predictors.

    Attributes:
        meta_rate: $\theta$; 0 is the least-mean-squares rule.
        initial_rate: All $\alpha_i$ at the start.

    Examples:
        Of two inputs ``(examples, features)`` one is noise, and its step size falls:

        >>> import mltk
        >>> import numpy as np
        >>> inputs = np.random.default_rng(0).normal(size=(2000, 2))
        >>> idbd = mltk.optim.IDBD(meta_rate=0.01)
        >>> state = idbd.init(inputs[0])
        >>> for x, y in zip(inputs, 3 * inputs[:, :1], strict=True):
        ...     error, state = idbd.step(state, x, y[0])
        >>> bool(state["log_rate"][1] < state["log_rate"][0])
        True
        >>> [round(float(w), 3) for w in state["weight"]]
        [3.0, 0.0]
    """

    meta_rate: NonNegative = 0.01
    initial_rate: Positive = 0.05

    def init(self, x: Array) -> Tree:
        r"""The state before the first example.

        Args:
            x: Inputs of the form that `step` will get, ``(..., features)``.

        Returns:
            ``weight`` ($w$), ``log_rate`` ($\beta$) and ``trace`` ($h$), each like ``x``.

        Raises:
            ShapeError: If ``x`` has no axis.
        """
        if x.ndim == 0:
            raise ShapeError("x has shape (); expected (..., features)")
        xp = kernels_of(x).xp
        zeros = xp.zeros_like(x)
        return {"weight": zeros, "log_rate": zeros + math.log(self.initial_rate), "trace": zeros}

    def step(self, state: Tree, x: Array, y: Array) -> tuple[Array, Tree]:
        r"""Learn from one example, for each predictor.

        Args:
            state: As from `init` or the previous step; it is not changed.
            x: Inputs ``(..., features)``.
            y: Targets ``(...)``.

        Returns:
            The errors $\delta$ before the step ``(...)``, and the next state.

        Raises:
            ShapeError: If ``x`` is not like the state, or ``y`` does not have its leading axes.
        """
        w, h = state["weight"], state["trace"]
        if x.shape != w.shape or y.shape != x.shape[:-1]:
            raise ShapeError(
                f"x and y have shapes {tuple(x.shape)} and {tuple(y.shape)}; "
                f"expected {tuple(w.shape)} and {tuple(w.shape[:-1])}"
            )
        kernels = kernels_of(x)
        xp = kernels.xp
        error = kernels.as_array(y - xp.sum(w * x, axis=-1))
        correction = error[..., None] * x
        log_rate = state["log_rate"] + self.meta_rate * correction * h
        rate = xp.exp(log_rate)
        step = rate * correction
        trace = h * xp.clip(1 - rate * x * x, 0, None) + step
        return error, {"weight": w + step, "log_rate": log_rate, "trace": trace}
