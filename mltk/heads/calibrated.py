"""A linear predictor with a scale and a shift of its outputs, which are learned for all tasks."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np

from mltk import tree
from mltk.checks import Checked, Flag, Positive
from mltk.heads.head import Head
from mltk.ops.kernels import kernels_of
from mltk.tree import Array, Tree


@dataclass(frozen=True)
class CalibrationSettings(Checked):
    r"""The settings of all heads that solve for a linear predictor, and of the learners that take one.

    Attributes:
        scale: What outputs are multiplied by, $\alpha$, or its start if learned.
        learn_scale: Whether $\alpha$ is learned.
        learn_bias: Whether $\beta$, which is added to all outputs, is learned, from 0; else it stays there.

    Raises:
        SettingError: If a number is not positive, or a switch not a bool.
    """

    _: KW_ONLY
    scale: Positive = 1.0
    learn_scale: Flag = True
    learn_bias: Flag = True


@dataclass(frozen=True)
class CalibratedHead(CalibrationSettings, Head):
    r"""A linear predictor $(W, b)$, solved for on the support set, and a calibration of its outputs.

    For a query embedding $q$ the outputs are (Bertinetto, Henriques, Torr & Vedaldi 2019, section 3.2)

    $$z = W q + b, \qquad y = \alpha z + \beta,$$

    with one scale $\alpha$ and one shift $\beta$ for all tasks and outputs, which make good logits of
    values between 0 and 1. With the cotangents $\bar y$ of all queries,

    $$\bar\alpha = \textstyle\sum \bar y \odot z, \quad \bar\beta = \sum \bar y, \quad
      \bar z = \alpha \bar y, \quad \bar q = W^\top \bar z, \quad \bar W = \sum_q \bar z q^\top, \quad
      \bar b = \sum_q \bar z.$$

    The solver pulls $\bar W$ and $\bar b$ back to the support embeddings and its own parameters. It works in
    double precision whatever the embeddings are in: its systems are small, and their condition numbers need
    not be.

    Parameters: ``scale`` and ``bias``, those of them that are learned, and those of the solver.
    """

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """See `Head.shapes`."""
        learned = {"scale": self.learn_scale, "bias": self.learn_bias}
        return {name: () for name, is_learned in learned.items() if is_learned}

    def init(self, rng: np.random.Generator) -> dict[str, Any]:
        """See `Head.init`."""
        starts = {"scale": self.scale, "bias": 0.0}
        return {name: np.asarray(start) for name, start in starts.items() if name in self.shapes}

    @abstractmethod
    def solved(self, p: Tree, support: Array, target: Array) -> tuple[Tree, Any]:
        """What `fit` returns, and the residuals of `solved_vjp`."""

    @abstractmethod
    def solved_vjp(
        self, p: Tree, residuals: Any, g_weight: Array, g_bias: Array | None
    ) -> tuple[Tree, Array]:
        """The cotangents of the solver's parameters and of the support embeddings, from those in double."""

    def fit(self, p: Tree, support: Array, target: Array) -> Tree:
        """The predictor: ``weight`` ``(T, o, d)`` and, if it has one, ``bias`` ``(T, o)``."""
        return self.solved(p, support, target)[0]

    def predict(self, p: Tree, fitted: Tree, query: Array) -> Array:
        """The calibrated outputs ``(T, M, o)``."""
        z = _outputs(fitted, query) * self.scale_of(p)
        return z + p["bias"][..., None, None] if self.learn_bias else z

    def forward(self, p: Tree, support: Array, target: Array, query: Array) -> tuple[Array, Any]:
        """See `Head.forward`."""
        fitted, residuals = self.solved(p, support, target)
        return self.predict(p, fitted, query), (fitted, query, residuals)

    def vjp(self, p: Tree, residuals: Any, gy: Array) -> tuple[Tree, Array, Array]:
        """See `Head.vjp`."""
        fitted, query, solved = residuals
        kernels = kernels_of(gy)
        gz = self.scale_of(p) * gy
        g_bias = double(kernels.sum(gz, (-2,))) if "bias" in fitted else None
        gp: Tree = {}
        if self.learn_scale:
            gp["scale"] = kernels.sum(gy, (-2, -1), times=_outputs(fitted, query))
        if self.learn_bias:
            gp["bias"] = kernels.sum(gy, (-2, -1))
        own, g_support = self.solved_vjp(p, solved, double(gz.mT @ query), g_bias)
        gp |= tree.map(lambda g: kernels.xp.astype(g, gy.dtype), own)
        return gp, kernels.xp.astype(g_support, gy.dtype), kernels.product(gz, fitted["weight"])

    def scale_of(self, p: Tree) -> Array | float:
        r"""$\alpha$, as it multiplies outputs."""
        return p["scale"][..., None, None] if self.learn_scale else self.scale


def _outputs(fitted: Tree, query: Array) -> Array:
    """The predictor's outputs before their calibration."""
    return kernels_of(query).affine(query, fitted["weight"], fitted.get("bias"))


def double(x: Array) -> Array:
    """The array in double precision."""
    xp = kernels_of(x).xp
    return xp.astype(x, xp.float64, copy=False)


def raise_diagonal(matrix: Array, by: Array) -> Array:
    """Square matrices ``(..., n, n)`` plus numbers ``(...)`` times the identity."""
    xp = kernels_of(matrix).xp
    identity = xp.eye(matrix.shape[-1], dtype=matrix.dtype, device=matrix.device)
    return matrix + by[..., None, None] * identity
