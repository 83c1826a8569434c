"""What mistakes put into a network or a step: a softmax, clipping, running statistics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from mltk import ops
from mltk.models import Sequential
from mltk.ops.operation import Operation, Residuals, Tangent
from mltk.ops.standardization import moments
from mltk.tree import Array, Tree

Flat = dict[str, np.ndarray]

ClipKind = Literal["norm", "norm as constant", "value"]

MOMENTUM = 0.1
"""How far a pass in training mode moves the running statistics of Torch, by default."""

TORCH_EPS = 1e-6
"""What Torch adds to a norm before it divides by it."""


@dataclass(frozen=True)
class Softmax(Operation):
    r"""Probabilities where a loss wants logits.

    $y = \operatorname{softmax}(x)$ has the symmetric Jacobian $J = \operatorname{diag}(y) - y y^\top$, so
    $\dot y = J \dot x$, $\bar x = J \bar y$ and
    $\dot{\bar x} = J \dot{\bar y} + \dot y (\bar y - \langle y, \bar y \rangle)
    - y \langle \dot y, \bar y \rangle$.
    """

    def forward(self, p: Tree, x: Array) -> tuple[Array, Residuals]:
        """See `mltk.ops.Operation`."""
        e = np.exp(x - x.max(-1, keepdims=True))
        y = e / e.sum(-1, keepdims=True)
        return y, y

    def jvp(self, p: Tree, res: Residuals, dp: Tree, dx: Array | None) -> Array:
        """See `mltk.ops.Operation`."""
        return res * (dx - _dot(res, dx))

    def vjp(self, p: Tree, res: Residuals, gy: Array, *, wrt_input: bool = True) -> tuple[Tree, Array | None]:
        """See `mltk.ops.Operation`."""
        return {}, res * (gy - _dot(res, gy))

    def jvp_of_vjp(
        self, p: Tree, res: Residuals, gy: Array, d: Tangent, *, wrt_input: bool = True
    ) -> tuple[Tree, Array | None]:
        """See `mltk.ops.Operation`."""
        dy = res * (d.x - _dot(res, d.x))
        return {}, res * (d.gy - _dot(res, d.gy)) + dy * (gy - _dot(res, gy)) - res * _dot(dy, gy)


def _dot(a: Array, b: Array) -> Array:
    return (a * b).sum(-1, keepdims=True)


@dataclass(frozen=True)
class Clip:
    """Clipping of a task's gradient, and its pullback.

    Attributes:
        kind: By the norm of all parameters together, as a function of the gradient or with a factor that is a
            constant on the way back; or each number by its value.
        limit: To what.
    """

    kind: ClipKind
    limit: float

    def __call__(self, gradient: Flat) -> Flat:
        """The clipped gradient; leaves have a leading task axis."""
        if self.kind == "value":
            return {name: np.clip(leaf, -self.limit, self.limit) for name, leaf in gradient.items()}
        factor = np.minimum(1, self.limit / (_norm(gradient) + TORCH_EPS))
        return {name: _spread(factor, leaf) * leaf for name, leaf in gradient.items()}

    def pullback(self, gradient: Flat, cotangent: Flat) -> Flat:
        """The cotangent of the gradient from that of the clipped one."""
        if self.kind == "value":
            return {name: (np.abs(gradient[name]) < self.limit) * leaf for name, leaf in cotangent.items()}
        norm = _norm(gradient)
        factor = np.minimum(1, self.limit / (norm + TORCH_EPS))
        scaled = {name: _spread(factor, leaf) * leaf for name, leaf in cotangent.items()}
        if self.kind == "norm as constant":
            return scaled
        along = sum(
            (cotangent[name] * leaf).sum(tuple(range(1, leaf.ndim))) for name, leaf in gradient.items()
        )
        below = np.where(norm > 0, norm, 1) * (norm + TORCH_EPS) ** 2
        slope = np.where(factor < 1, -along * self.limit / below, 0)
        return {name: leaf + _spread(slope, leaf) * gradient[name] for name, leaf in scaled.items()}


def _norm(gradient: Flat) -> np.ndarray:
    """The norm of each task's gradient, ``(T,)``."""
    squares = [np.square(leaf).sum(tuple(range(1, leaf.ndim))) for leaf in gradient.values()]
    return np.asarray(np.sqrt(sum(squares)))


def _spread(numbers: np.ndarray, leaf: np.ndarray) -> np.ndarray:
    return numbers.reshape(-1, *[1] * (leaf.ndim - 1))


def fresh_buffers(model: Sequential, tasks: int) -> Flat:
    """The running statistics with which Torch's batch norms begin: mean 0 and variance 1, per task."""
    return {
        f"{name}.{key}": np.full((tasks, layer.features), value)
        for name, layer in model.named_layers
        if isinstance(layer, ops.BatchNorm)
        for key, value in (("running_mean", 0.0), ("running_var", 1.0))
    }


def tracked(model: Sequential, params: Tree, x: np.ndarray, buffers: Flat) -> Flat:
    """Running statistics after a pass in training mode; the variance is the unbiased one, as in Torch."""
    found = dict(buffers)
    for name, layer in model.named_layers:
        own = params.get(name, {})
        if isinstance(layer, ops.BatchNorm):
            mean, variance = (layer.per_channel(moment) for moment in moments(x, layer.axes))
            count = np.prod([x.shape[axis] for axis in layer.axes])
            unbiased = variance * count / max(count - 1, 1)
            for key, seen in (("running_mean", mean), ("running_var", unbiased)):
                at = f"{name}.{key}"
                found[at] = (1 - MOMENTUM) * found[at] + MOMENTUM * seen
        x, _ = layer.forward(own, x)
    return found
