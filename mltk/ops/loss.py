"""Losses: operations whose parameter is the target and whose value is one number a task; squared error."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

from mltk.errors import DtypeError, ShapeError
from mltk.ops.kernels import kernels_of
from mltk.ops.operation import Operation, Pulled, Residuals, Tangent, unfit
from mltk.tree import Array, Tree


class Loss(Operation):
    """An operation on outputs ``(T, N, *features)`` with ``p = {"target": y}`` and a value ``(T,)``.

    Outputs ``(N, d)`` of a single task, without its axis, have a value ``()``. The target is a constant: no
    cotangent is returned for it. The cotangent ``gy`` of the value may be a float, the same for all tasks,
    and ``dgy=None`` stands for a tangent of it that is zero by structure.
    """

    @abstractmethod
    def check_target(self, outputs: Array, target: Array) -> None:
        """Raise a `ShapeError` or `DtypeError` unless the target fits the outputs."""

    def forward(self, p: Tree, x: Array) -> tuple[Array, Residuals]:
        self.check_target(x, p["target"])
        return self.value(x, p["target"])

    @abstractmethod
    def value(self, outputs: Array, target: Array) -> tuple[Array, Residuals]:
        """The mean loss over the examples, per task, and the residuals."""


class PointwiseLoss(Loss):
    r"""The mean of a function of each number and its target.

    `value` returns its slopes and its curvatures as residuals, from which the derivatives follow.
    """

    def jvp(self, p: Tree, res: tuple[Array, Array], dp: Tree, dx: Array | None) -> Array:
        return mean_of_task(res[0], times=dx)

    def vjp(self, p: Tree, res: tuple[Array, Array], gy: Array | float, *, wrt_input: bool = True) -> Pulled:
        return {}, scaled(gy, 1 / numbers_of_task(res[0]), res[0].ndim) * res[0]

    def jvp_of_vjp(
        self, p: Tree, res: tuple[Array, Array], gy: Array | float, d: Tangent, *, wrt_input: bool = True
    ) -> Pulled:
        slope, curvature = res
        part = 1 / numbers_of_task(slope)
        dgx = scaled(gy, part, slope.ndim) * curvature * d.x
        return {}, dgx if d.gy is None else dgx + scaled(d.gy, part, slope.ndim) * slope


@dataclass(frozen=True)
class MeanSquaredError(Loss):
    r"""Mean of the squared differences over the examples and the output features.

    With $e = x - t$ and $m$ numbers a task, $y = \tfrac1m \sum e^2$:

    $$\dot y = \tfrac2m \textstyle\sum e \dot x, \qquad \bar x = \tfrac2m \bar y e, \qquad
      \dot{\bar x} = \tfrac2m (\dot{\bar y} e + \bar y \dot x).$$

    Outputs and targets ``(T, N, *features)`` with at least one axis of features, or ``(N, d)``; both of the
    same floating dtype.
    """

    def check_target(self, outputs: Array, target: Array) -> None:
        check_alike(self, "mean squared error", outputs, target)

    def value(self, outputs: Array, target: Array) -> tuple[Array, Array]:
        error = outputs - target
        return self._mean(error, error), error

    def jvp(self, p: Tree, res: Array, dp: Tree, dx: Array | None) -> Array:
        return 2 * self._mean(res, dx)

    def vjp(self, p: Tree, res: Array, gy: Array | float, *, wrt_input: bool = True) -> Pulled:
        return {}, self._pullback(res, gy)

    def jvp_of_vjp(
        self, p: Tree, res: Array, gy: Array | float, d: Tangent, *, wrt_input: bool = True
    ) -> Pulled:
        dgx = self._pullback(d.x, gy)
        return {}, dgx if d.gy is None else dgx + self._pullback(res, d.gy)

    def _pullback(self, error: Array, gy: Array | float) -> Array:
        return scaled(gy, 2 / numbers_of_task(error), error.ndim) * error

    def _mean(self, error: Array, times: Array) -> Array:
        return mean_of_task(error, times=times)


def check_alike(loss: Loss, name: str, outputs: Array, target: Array) -> None:
    """Raise a `ShapeError` or `DtypeError` unless a target has the shape and dtype of the outputs."""
    if target.dtype != outputs.dtype:
        raise DtypeError(
            f"the target of the {name} has dtype {target.dtype}; "
            f"expected that of the outputs, {outputs.dtype}"
        )
    if outputs.ndim < 2:
        raise unfit(loss, outputs, "d")
    if tuple(outputs.shape) != tuple(target.shape):
        raise ShapeError(
            f"the target of the {name} has shape {tuple(target.shape)}; "
            f"expected that of the outputs, {tuple(outputs.shape)}"
        )


def axes_of_task(ndim: int) -> tuple[int, ...]:
    """The axes of outputs that belong to one task: all but the first, and both of ``(N, d)``."""
    return tuple(range(min(1 - ndim, -2), 0))


def numbers_of_task(outputs: Array) -> int:
    """How many numbers the outputs for one task are."""
    return math.prod(outputs.shape[axis] for axis in axes_of_task(outputs.ndim))


def mean_of_task(values: Array, *, times: Array | None = None) -> Array:
    """The mean, per task, of values like the outputs, or of their products with others."""
    return kernels_of(values).sum(values, axes_of_task(values.ndim), times=times) / numbers_of_task(values)


def mean_over_tasks(leaf: Array) -> Array:
    """The mean over the leading axis, the tasks: of their losses, or of a gradient of each."""
    return kernels_of(leaf).sum(leaf, (0,)) / leaf.shape[0]


def scaled(gy: Array | float, factor: float, ndim: int = 3) -> Array | float:
    """A factor times the cotangent of the value, shaped to multiply outputs of ``ndim`` axes."""
    if isinstance(gy, float):
        return factor * gy
    return (factor * gy)[(..., *[None] * len(axes_of_task(ndim)))]
