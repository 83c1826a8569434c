"""The affine map of a fully connected layer."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mltk.checks import Checked, Count, Flag
from mltk.ops.kernels import kernels_of
from mltk.ops.operation import Operation, Pulled, Tangent, unfit
from mltk.tree import Array, Tree


@dataclass(frozen=True)
class Linear(Checked, Operation):
    r"""Affine map of the last axis.

    With $y = x W^\top + b$:

    $$\dot y = \dot x W^\top + x \dot W^\top + \dot b, \qquad
      \bar W = \bar y^\top x, \quad \bar b = \textstyle\sum_n \bar y_n, \quad \bar x = \bar y W,$$

    $$\dot{\bar W} = \dot{\bar y}^\top x + \bar y^\top \dot x, \qquad
      \dot{\bar b} = \textstyle\sum_n \dot{\bar y}_n, \qquad
      \dot{\bar x} = \dot{\bar y} W + \bar y \dot W.$$

    Parameters: ``weight`` ``(out_features, in_features)`` and, if ``bias``, ``bias`` ``(out_features,)``;
    both start uniform in ±1/√in_features, Torch's default. Input ``(..., N, in_features)``.

    Attributes:
        in_features: Length of an input.
        out_features: Length of an output.
        bias: Whether there is a bias.
    """

    in_features: Count
    out_features: Count
    bias: Flag = True

    example_axes = 1

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        shapes: dict[str, tuple[int, ...]] = {"weight": (self.out_features, self.in_features)}
        if self.bias:
            shapes["bias"] = (self.out_features,)
        return shapes

    def init(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        bound = 1 / math.sqrt(self.in_features)
        return {name: rng.uniform(-bound, bound, shape) for name, shape in self.shapes.items()}

    def forward(self, p: Tree, x: Array) -> tuple[Array, Array]:
        if x.ndim < 2 or x.shape[-1] != self.in_features:
            raise unfit(self, x, self.in_features)
        return kernels_of(x).affine(x, p["weight"], p.get("bias")), x

    def jvp(self, p: Tree, res: Array, dp: Tree, dx: Array | None) -> Array:
        kernels = kernels_of(res)
        dy = kernels.affine(res, dp["weight"], dp.get("bias"))
        if dx is not None:
            dy += kernels.affine(dx, p["weight"], None)
        return dy

    def vjp(self, p: Tree, res: Array, gy: Array, *, wrt_input: bool = True) -> Pulled:
        kernels = kernels_of(gy)
        gp = {"weight": gy.mT @ res}
        if self.bias:
            gp["bias"] = kernels.sum(gy, (-2,))
        return gp, kernels.product(gy, p["weight"]) if wrt_input else None

    def jvp_of_vjp(self, p: Tree, res: Array, gy: Array, d: Tangent, *, wrt_input: bool = True) -> Pulled:
        dgp, dgx = self.vjp(p, res, d.gy, wrt_input=wrt_input)
        if d.x is not None:
            dgp["weight"] += gy.mT @ d.x
        if dgx is not None:
            dgx += kernels_of(gy).product(gy, d.p["weight"])
        return dgp, dgx
