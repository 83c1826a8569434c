"""Activations: functions of each element alone."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from mltk.ops.kernels import kernels_of
from mltk.ops.operation import Operation, Pulled, Residuals, Tangent
from mltk.tree import Array, Tree


class Activation(Operation):
    r"""A function $y = f(x)$ of each element, given by its slope and the tangent of its slope.

    With $s = f'(x)$ and $\dot s = f''(x) \, \dot x$, all activations share

    $$\dot y = s \dot x, \qquad \bar x = s \bar y, \qquad \dot{\bar x} = s \dot{\bar y} + \dot s \bar y.$$

    The residuals are a tuple that starts with the slope.
    """

    @abstractmethod
    def slope_tangent(self, res: Residuals, dx: Array) -> Array | None:
        """The tangent of the slope along ``dx``; ``None`` where the slope is constant."""

    def jvp(self, p: Tree, res: Residuals, dp: Tree, dx: Array | None) -> Array:
        return res[0] * dx

    def vjp(self, p: Tree, res: Residuals, gy: Array, *, wrt_input: bool = True) -> Pulled:
        return {}, res[0] * gy

    def jvp_of_vjp(self, p: Tree, res: Residuals, gy: Array, d: Tangent, *, wrt_input: bool = True) -> Pulled:
        dgx = res[0] * d.gy
        slope_tangent = self.slope_tangent(res, d.x)
        if slope_tangent is not None:
            slope_tangent *= gy
            dgx += slope_tangent
        return {}, dgx


@dataclass(frozen=True)
class ReLU(Activation):
    r"""Rectified linear unit, $y = \max(x, 0)$.

    The slope is $s = [x > 0]$, so it is 0 at $x = 0$ (as in Torch), and $\dot s = 0$.
    """

    def forward(self, p: Tree, x: Array) -> tuple[Array, tuple[Array]]:
        y, slope = kernels_of(x).relu(x)
        return y, (slope,)

    def slope_tangent(self, res: tuple[Array], dx: Array) -> None:
        return None


@dataclass(frozen=True)
class Tanh(Activation):
    r"""Hyperbolic tangent.

    With $y = \tanh x$: $s = 1 - y^2$ and $\dot s = -2 y s \dot x$.
    """

    def forward(self, p: Tree, x: Array) -> tuple[Array, tuple[Array, Array]]:
        y = kernels_of(x).xp.tanh(x)
        return y, (1 - y * y, y)

    def slope_tangent(self, res: tuple[Array, Array], dx: Array) -> Array:
        slope, y = res
        return -2 * y * slope * dx


@dataclass(frozen=True)
class Sigmoid(Activation):
    r"""Logistic function.

    With $y = 1 / (1 + e^{-x})$: $s = y (1 - y)$ and $\dot s = (1 - 2 y) s \dot x$. It is evaluated as
    $\tfrac12 (1 + \tanh \tfrac x2)$, which cannot overflow.
    """

    def forward(self, p: Tree, x: Array) -> tuple[Array, tuple[Array, Array]]:
        y = sigmoid(x)
        return y, (y * (1 - y), y)

    def slope_tangent(self, res: tuple[Array, Array], dx: Array) -> Array:
        slope, y = res
        return (1 - 2 * y) * slope * dx


@dataclass(frozen=True)
class SiLU(Activation):
    r"""Sigmoid linear unit, $y = x \sigma(x)$ (Hendrycks & Gimpel 2016; Ramachandran et al. 2017, swish).

    With $\sigma = \sigma(x)$ and $\sigma' = \sigma (1 - \sigma)$: $s = \sigma + x \sigma'$ and
    $\dot s = \sigma' \, (2 + x (1 - 2 \sigma)) \, \dot x$.
    """

    def forward(self, p: Tree, x: Array) -> tuple[Array, tuple[Array, Array, Array]]:
        sigma = sigmoid(x)
        y = x * sigma
        return y, (sigma + y * (1 - sigma), sigma, x)

    def slope_tangent(self, res: tuple[Array, Array, Array], dx: Array) -> Array:
        _, sigma, x = res
        return sigma * (1 - sigma) * (2 + x * (1 - 2 * sigma)) * dx


ACTIVATIONS: dict[str, type[Activation]] = {
    kind.__name__.lower(): kind for kind in (Tanh, ReLU, Sigmoid, SiLU)
}
"""Every activation, by the name that models take. Torch's module is called as the class, its function so."""


def sigmoid(x: Array) -> Array:
    """The logistic function, by a hyperbolic tangent: it cannot overflow."""
    return (kernels_of(x).xp.tanh(x / 2) + 1) / 2
