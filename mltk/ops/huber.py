"""Smooth absolute error: squared near zero, absolute far from it."""

from __future__ import annotations

from dataclasses import dataclass

from mltk.checks import Checked, Positive
from mltk.ops.kernels import kernels_of
from mltk.ops.loss import PointwiseLoss, check_alike, mean_of_task
from mltk.tree import Array


@dataclass(frozen=True)
class SmoothL1(Checked, PointwiseLoss):
    r"""Mean of $\tfrac1{2 \beta} e^2$ where $|e| < \beta$ and of $|e| - \tfrac\beta2$ elsewhere.

    It is Huber's loss (1964) divided by $\beta$. With $e = x - t$, the slope
    $s = \min(\max(e / \beta, -1), 1)$, the curvature $c = 1 / \beta$ where $|e| < \beta$ and zero elsewhere,
    and $m$ numbers a task:

    $$\dot y = \tfrac1m \textstyle\sum s \dot x, \qquad \bar x = \tfrac1m \bar y s, \qquad
      \dot{\bar x} = \tfrac1m (\dot{\bar y} s + \bar y c \dot x).$$

    Outputs and targets ``(T, N, *features)`` or ``(N, d)``, both of the same floating dtype.

    Attributes:
        beta: $\beta$, where the two forms meet.

    Raises:
        SettingError: If ``beta`` is no positive number.
    """

    beta: Positive = 1.0

    def check_target(self, outputs: Array, target: Array) -> None:
        check_alike(self, "smooth L1 loss", outputs, target)

    def value(self, outputs: Array, target: Array) -> tuple[Array, tuple[Array, Array]]:
        xp = kernels_of(outputs).xp
        error = outputs - target
        near = xp.abs(error) < self.beta
        slope = xp.where(near, error / self.beta, xp.sign(error))
        loss = slope * (error - slope * (self.beta / 2))  # either form
        return mean_of_task(loss), (slope, xp.astype(near, outputs.dtype) / self.beta)
